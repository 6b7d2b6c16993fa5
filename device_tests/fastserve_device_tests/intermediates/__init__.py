"""Reading what a model file computes inside: one module for each format, named by it and imported when used.

A module rewrites a shipped file so that tensors from inside become outputs, and nothing else changes. Third parties add
theirs by the entry-point group `fastserve.intermediates`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fastserve_runtime.plugins import PartFolder
from fastserve_runtime.sessions.session import ModelSource

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INTERMEDIATES = PartFolder("fastserve_device_tests.intermediates", "fastserve.intermediates", "way to read inside")


@dataclass(frozen=True)
class Output:
    """An output that was added.

    Attributes:
        name: what the engine calls it.
        dtype: numpy's name for its type.
        scale: of integers that stand for real numbers.
        zero_point: likewise.
    """

    name: str
    dtype: str
    scale: float | None = None
    zero_point: int = 0

    def real(self, value: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return what an output's values stand for."""
        import numpy as np

        numbers = np.asarray(value, np.float32)
        return numbers if self.scale is None else (numbers - np.float32(self.zero_point)) * np.float32(self.scale)


@dataclass(frozen=True)
class Instrumented:
    """A model that gives tensors from inside.

    Attributes:
        model: the file's content, or its place where it was not changed.
        outputs: tensor → its output; tensors that the file does not have are absent.
    """

    model: ModelSource
    outputs: Mapping[str, Output]


class Intermediates(Protocol):
    """What a module in `intermediates` offers."""

    def instrumented(self, model: ModelSource, entry: str, tensors: Sequence[str]) -> Instrumented:
        """Return a model whose further outputs are these tensors.

        Args:
            model: a file, or its content.
            entry: the method or signature whose outputs they become; as in the manifest's graph.
            tensors: names of tensors, as the layer map has them.

        Raises:
            EnvironmentFailure: the library that rewrites files is not installed.
        """
