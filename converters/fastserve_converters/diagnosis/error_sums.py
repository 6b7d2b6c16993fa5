"""How large an error is beside its signal: over all samples, in the worst of them, and in the worst channel."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_DB = 999.0
"""Stands for infinite ratios in documents, as JSON has no infinity."""
_STEPS = 127
"""Of an 8-bit grid, on each side of zero."""


@dataclass
class ErrorSums:
    """Powers of signal and error of an intermediate output over the samples so far, and of its last axis' channels.

    `rounding` is the error that rows would have which were rounded to 8 bits, each with a scale of its own.
    """

    signal: float = 0.0
    noise: float = 0.0
    by_sample: dict[int, tuple[float, float]] = field(default_factory=dict)
    channels: list[NDArray[np.float64]] | None = None
    rows: int = 0
    rounding: float = 0.0
    has_channels: bool = True

    def add(self, sample: int, expected: NDArray[np.floating], actual: NDArray[np.floating]) -> None:
        """Add a sample; another shape or values that are not finite make the error infinite."""
        signal = np.asarray(expected, np.float64)
        power = float(np.sum(signal**2))
        if actual.size != expected.size or not np.all(np.isfinite(actual)):
            self._count(sample, power, math.inf)
            return
        error = np.asarray(actual, np.float64).reshape(signal.shape) - signal
        self._count(sample, power, float(np.sum(error**2)))
        if signal.ndim > 1:
            # A uniform error of one step has a twelfth of its square (Bennett 1948).
            self.rounding += float(np.sum((np.abs(signal).max(-1) / _STEPS) ** 2)) / 12 * signal.shape[-1]
        self._add_channels(signal, error)

    def _count(self, sample: int, signal: float, noise: float) -> None:
        self.signal += signal
        self.noise += noise
        self.by_sample[sample] = signal, noise

    def _add_channels(self, signal: NDArray[np.float64], error: NDArray[np.float64]) -> None:
        width = signal.shape[-1] if signal.ndim > 1 else 0
        if width < 2 or (self.channels is not None and len(self.channels[0]) != width):
            self.has_channels = False
        if not self.has_channels:
            return
        left, right = signal.reshape(-1, width), error.reshape(-1, width)
        sums = [np.sum(left**2, 0), np.sum(right**2, 0), np.sum(right, 0)]
        self.channels = sums if self.channels is None else [a + b for a, b in zip(self.channels, sums, strict=True)]
        self.rows += len(left)

    def as_document(self) -> dict[str, Any]:
        """Return the figures as JSON: ratios in dB within `MAX_DB`, and None for what no sample or channel tells."""
        ratios = {number: ratio_db(*powers) for number, powers in self.by_sample.items()}
        worst = min(ratios, key=lambda number: ratios[number], default=None)
        document: dict[str, Any] = {
            "sqnr_db": as_number(ratio_db(self.signal, self.noise)),
            "worst_sample": worst,
            "worst_sqnr_db": None if worst is None else as_number(ratios[worst]),
            "channel": None,
            "channel_sqnr_db": None,
            "steady_sqnr_db": None,
            "rounded_sqnr_db": as_number(ratio_db(self.signal, self.rounding)) if self.rounding else None,
        }
        if self.has_channels and self.channels is not None:
            signal, noise, sum_of_errors = self.channels
            channel = int(np.argmax(noise))
            # Against the mean channel: one that should be all but zero would have a ratio that says nothing.
            document["channel"] = channel
            document["channel_sqnr_db"] = as_number(ratio_db(float(signal.mean()), float(noise[channel])))
            steady = float(np.sum((sum_of_errors / self.rows) ** 2))
            document["steady_sqnr_db"] = as_number(ratio_db(float(signal.sum()) / self.rows, steady))
        return document


def ratio_db(signal: float, noise: float) -> float:
    """Return a ratio of powers in dB; infinite where there is no noise, minus infinity where there is no signal."""
    if noise == 0:
        return math.inf
    if signal == 0 or math.isinf(noise):
        return -math.inf
    return 10 * math.log10(signal / noise)


def as_number(ratio: float) -> float:
    """Return a ratio within what JSON has."""
    return max(-MAX_DB, min(MAX_DB, ratio))
