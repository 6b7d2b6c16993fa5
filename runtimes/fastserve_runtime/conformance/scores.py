"""How near two models' scores of the same texts are: regressions, and relevances of documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fastserve_runtime.conformance.metrics import Interval, bootstrap, spearman
from fastserve_runtime.conformance.quality import Quality

if TYPE_CHECKING:
    from numpy.typing import NDArray

CORRELATION = "Spearman correlation"
PEARSON = "Pearson correlation"
_RESAMPLES = 1000
_CONFIDENCE = 0.95


def score_quality(
    reference: NDArray[np.floating],
    actual: NDArray[np.floating],
    seed: int,
    beside: Mapping[str, float] | None = None,
) -> Quality:
    """Compare scores by their rank correlation, with Pearson's correlation beside; the mean over several outputs.

    Args:
        reference: shape [n, outputs].
        actual: likewise; values that are not finite give 0.
        seed: of the bootstrap over samples.
        beside: further figures to show.
    """
    interval = correlation_interval(reference, actual, seed)
    figures = {PEARSON: mean_pearson(reference, actual), **(beside or {})}
    return Quality(CORRELATION, interval.value, interval.low, interval.high, len(reference), figures)


def correlation_interval(reference: NDArray[np.floating], actual: NDArray[np.floating], seed: int) -> Interval:
    """Return the mean over outputs of Spearman's correlation, with its bootstrap interval; shapes [n, outputs]."""
    if not np.isfinite(actual).all():
        return Interval(0.0, 0.0, 0.0)
    return bootstrap(
        mean_spearman(reference, actual),
        len(reference),
        lambda rows: mean_spearman(reference[rows], actual[rows]),
        seed=seed,
        resamples=_RESAMPLES,
        confidence=_CONFIDENCE,
    )


def mean_spearman(reference: NDArray[np.floating], actual: NDArray[np.floating]) -> float:
    """Return the mean over outputs of Spearman's rank correlation, shapes [n, outputs]."""
    return float(np.mean([spearman(a, b) for a, b in zip(reference.T, actual.T, strict=True)]))


def mean_pearson(reference: NDArray[np.floating], actual: NDArray[np.floating]) -> float:
    """Return the mean over outputs of Pearson's correlation, shapes [n, outputs]."""
    return float(np.mean([pearson(a, b) for a, b in zip(reference.T, actual.T, strict=True)]))


def pearson(reference: NDArray[np.floating], actual: NDArray[np.floating]) -> float:
    """Return Pearson's correlation; 0 where either side is empty, constant or not finite."""
    left, right = np.asarray(reference, np.float64), np.asarray(actual, np.float64)
    if not (left.size and np.isfinite(left).all() and np.isfinite(right).all()):
        return 0.0
    left, right = left - left.mean(), right - right.mean()
    spread = float(np.sqrt(np.sum(left**2) * np.sum(right**2)))
    return float(np.clip(np.sum(left * right) / spread, -1, 1)) if spread else 0.0
