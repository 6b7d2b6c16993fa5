"""Where a head's dimensions stand in what GroupQueryAttention takes.

The operator wants heads of a multiple of 8 dimensions, of 16 where it turns them, and turned halves of a multiple of 8.
Heads of other sizes are given dimensions of zeros: behind each turned half, and at the end. They add nothing to the
products of queries and keys, and come back as zeros. The cache holds them too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.models.decoder.form import DecoderForm

_MULTIPLE = 8
_MULTIPLE_TURNED = 16


@dataclass(frozen=True)
class HeadLayout:
    """A head's dimensions for the operator.

    Attributes:
        size: how many dimensions the model's heads have.
        half: how many pairs of them are turned; 0 where none are.
    """

    size: int
    half: int

    @property
    def padded_half(self) -> int:
        """How many pairs the operator turns."""
        return _up(self.half, _MULTIPLE)

    @cached_property
    def padded_size(self) -> int:
        """How many dimensions the operator's heads have."""
        rest = self.size - 2 * self.half
        return _up(2 * self.padded_half + rest, _MULTIPLE_TURNED if self.half else _MULTIPLE)

    @property
    def is_padded(self) -> bool:
        """Whether the two differ."""
        return self.padded_size != self.size

    def selection(self) -> NDArray[np.float32]:
        """Return the matrix by which a head of the model becomes one of the operator, shape [size, padded_size].

        Its transpose makes the way back.
        """
        places = np.arange(self.size)
        moved = self.padded_half - self.half
        places[self.half :] += moved
        places[2 * self.half :] += moved
        matrix = np.zeros((self.size, self.padded_size), np.float32)
        matrix[np.arange(self.size), places] = 1
        return matrix

    def table(self, values: NDArray[np.float32], beyond: float) -> NDArray[np.float32]:
        """Return cosines or sines with columns for all pairs of the operator.

        Args:
            values: shape [positions, half].
            beyond: what the added columns hold.
        """
        return np.pad(values, ((0, 0), (0, self.padded_half - self.half)), constant_values=beyond)


def head_layout(form: DecoderForm, layer: int) -> HeadLayout:
    """Return the layout of a layer's heads."""
    settings = form.settings[layer]
    half = 0 if settings.rotary is None else int(form.rotary(settings.rotary)[0].shape[1])
    return HeadLayout(settings.head_dim, half)


def _up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
