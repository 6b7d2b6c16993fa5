"""What a task's quality is told from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Comparison:
    """A variant's outputs on samples, beside the reference's.

    Attributes:
        reference: the reference's outputs by name, shape [n, ...].
        actual: the variant's.
        inputs: of the samples, and what is known of them beside (`query`), shape [n, ...].
        labels: of each sample, as its task reads them: a class, a number, 1 or 0 for each of several labels, or a
            sequence of right answers. None where there are none.
        seed: of the bootstrap.
        settings: the task's own, the manifest's `task_settings`.
    """

    reference: Arrays
    actual: Arrays
    inputs: Arrays = field(default_factory=dict)
    labels: Sequence[Any] | NDArray[np.generic] | None = None
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)

    def first_outputs(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the first output of the reference and the variant's of the same name, shape [n, ...] each."""
        name = next(iter(self.reference))
        return np.asarray(self.reference[name], np.float64), np.asarray(self.actual[name], np.float64)
