"""A quantized weight matrix: whatever rounded it, and whatever writes it into a file.

Terms are those of Jacob et al. (arXiv 1712.05877): real = (integer - zero point) x scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.precisions import WeightScheme


@dataclass(frozen=True)
class QuantizedWeight:
    """A quantized weight matrix of a layer.

    Attributes:
        values: shape [rows, columns], on the signed grid: int8 in -127..127, int4 in -8..7.
        scale: float32, shape [rows, groups]; one group where a row has one scale.
        zero_point: on the same grid, shape [rows, groups]; zeros where the scheme is symmetric.
        scheme: how it was made.
        minimum: float32, shape [rows, groups]: what is added to each group; None where the scheme has none.
    """

    values: NDArray[np.int8]
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int8]
    scheme: WeightScheme
    minimum: NDArray[np.float32] | None = None

    def dequantized(self) -> NDArray[np.float32]:
        """Return the reals that the quantized weights stand for, float32, shape [rows, columns]."""
        rows, columns = self.values.shape
        grouped = self.values.reshape(rows, self.scale.shape[1], -1).astype(np.float32)
        reals = (grouped - self.zero_point[..., None].astype(np.float32)) * self.scale[..., None]
        if self.minimum is not None:
            reals = reals + self.minimum[..., None]
        return np.asarray(reals.reshape(rows, columns), np.float32)

    def is_exactly(self, weight: NDArray[np.floating]) -> bool:
        """Whether the quantized weights stand for a weight matrix to the last bit."""
        return self.values.shape == weight.shape and np.array_equal(self.dequantized(), weight)
