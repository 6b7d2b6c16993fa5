"""Ranges of activations on calibration data that leave out the outermost values, from histograms.

Rounding the many finer may be worth cutting off the few largest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

_BINS = 4096
_TAIL = 1e-4
"""The share of the values that a percentile leaves out at each end."""
_CLIPPING = np.linspace(1.0, 0.1, 46)
"""Shares of an end that are tried for the least squared error."""
_MOVES = ((True, True), (True, False), (False, True), (True, False), (False, True))
"""Which ends are moved at a time: both together first, since a step is as wide as both ask for."""

Reader = Callable[[Mapping[str, NDArray[Any]]], Mapping[str, NDArray[np.float32]]]
"""From one sample to values by name."""


@dataclass(frozen=True)
class Histogram:
    """How often values occur: counts of bins of equal width between the least and the largest."""

    low: float
    high: float
    counts: NDArray[np.int64]

    @property
    def edges(self) -> NDArray[np.float64]:
        """The bounds of the bins, one more than there are bins."""
        return np.linspace(self.low, self.high, len(self.counts) + 1)

    @property
    def centres(self) -> NDArray[np.float64]:
        """The middle of every bin."""
        edges = self.edges
        return (edges[1:] + edges[:-1]) / 2


def find_ranges(
    read: Reader, samples: Sequence[Mapping[str, NDArray[Any]]], method: Literal["percentile", "mse"], bits: int
) -> dict[str, tuple[float, float]]:
    """Return the lower and the upper end of the range of everything that a reader gives.

    Args:
        read: gives the values; it is asked twice for every sample, so that no values need to be kept.
        samples: inputs.
        method: see `RangeMethod`.
        bits: of the integers that the range is divided into.
    """
    found = histograms(read, samples)
    if method == "percentile":
        return {name: percentile_range(values) for name, values in found.items()}
    return {name: min_error_range(values, bits) for name, values in found.items()}


def histograms(read: Reader, samples: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, Histogram]:
    """Return the histogram of each named value over all samples."""
    ends: dict[str, tuple[float, float]] = {}
    for sample in samples:
        for name, values in read(sample).items():
            low, high = ends.get(name, (np.inf, -np.inf))
            ends[name] = min(low, float(values.min())), max(high, float(values.max()))
    counts = {name: np.zeros(_BINS, np.int64) for name in ends}
    for sample in samples:
        for name, values in read(sample).items():
            counts[name] += np.histogram(values, _BINS, ends[name])[0]
    return {name: Histogram(*ends[name], counts[name]) for name in ends}


def percentile_range(values: Histogram) -> tuple[float, float]:
    """Return the range without the outermost ten-thousandth of the values at each end."""
    below = np.concatenate([[0], np.cumsum(values.counts)]) / values.counts.sum()
    # The last edge with no more than that below it, and the first with no more than that above it.
    low = values.edges[np.searchsorted(below, _TAIL, side="right") - 1]
    high = values.edges[np.searchsorted(below, 1 - _TAIL, side="left")]
    return float(low), float(high)


def min_error_range(values: Histogram, bits: int) -> tuple[float, float]:
    """Return the range where rounding to a uniform grid, which has a step at zero, leaves the least squared error.

    Args:
        values: what is rounded.
        bits: of the grid.
    """
    whole = np.array([min(values.low, 0.0), max(values.high, 0.0)])
    ends = whole
    for moved in _MOVES:
        tried = [np.where(moved, whole * share, ends) for share in _CLIPPING]
        errors = [_squared_error(values, float(low), float(high), bits) for low, high in tried]
        ends = tried[int(np.argmin(errors))]
    return float(ends[0]), float(ends[1])


def _squared_error(values: Histogram, low: float, high: float, bits: int) -> float:
    step = (high - low) / (2**bits - 1)
    if step <= 0:
        return float(np.dot(values.counts, np.square(values.centres - low)))
    zero = np.rint(-low / step)
    quantized = np.clip(np.rint(values.centres / step) + zero, 0, 2**bits - 1)
    return float(np.dot(values.counts, np.square((quantized - zero) * step - values.centres)))
