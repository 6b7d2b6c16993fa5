"""How near two sets of outputs are, in numpy. Every function takes the reference first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Interval:
    """A figure and the bounds of its bootstrap interval."""

    value: float
    low: float
    high: float


def largest_error(reference: Floats, actual: Floats) -> float:
    """Return the largest absolute difference; infinity where either has a value that is not finite."""
    with np.errstate(invalid="ignore"):
        difference = np.abs(np.asarray(reference, np.float64) - np.asarray(actual, np.float64))
    return float(difference.max(initial=0.0)) if np.all(np.isfinite(difference)) else float("inf")


def relative_error(reference: Floats, error: float) -> float:
    """Return an absolute error, divided by the reference's largest absolute value."""
    scale = float(np.abs(np.asarray(reference, np.float64)).max(initial=0.0))
    if scale == 0:
        return 0.0 if error == 0 else float("inf")
    return error / scale


def sqnr_db(reference: Floats, actual: Floats) -> float:
    """Return the signal-to-quantization-noise ratio in dB: infinity for equal, -infinity for values not finite."""
    signal = np.asarray(reference, np.float64)
    with np.errstate(invalid="ignore"):
        noise = signal - np.asarray(actual, np.float64)
    if not np.all(np.isfinite(noise)):
        return float("-inf")
    noise_power = float(np.sum(noise**2))
    signal_power = float(np.sum(signal**2))
    if noise_power == 0:
        return float("inf")
    return 10 * float(np.log10(signal_power / noise_power)) if signal_power else float("-inf")


def row_cosines(reference: Floats, actual: Floats) -> NDArray[np.float64]:
    """Return each row's cosine; rows are the last axis, the others are flattened. Not finite counts as -1.

    Two zero rows are alike (1); a zero row beside another is not (0).
    """
    left = np.asarray(reference, np.float64).reshape(-1, reference.shape[-1])
    right = np.asarray(actual, np.float64).reshape(-1, actual.shape[-1])
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    with np.errstate(invalid="ignore"):
        dots = np.sum(left * right, axis=1)
        cosines = np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0)
    cosines[np.all(left == 0, axis=1) & np.all(right == 0, axis=1)] = 1.0
    return np.asarray(np.where(np.isfinite(norms) & np.isfinite(cosines), cosines, -1.0))


def divergences(reference: Floats, actual: Floats) -> NDArray[np.float64]:
    """Return the Kullback-Leibler divergence of each row's softmax from the reference's, in nats, shape [rows].

    Rows are scores of classes, or log-probabilities up to a constant. Scores that are not finite give infinity.
    """
    left, right = (_log_softmax(np.asarray(a, np.float64).reshape(-1, a.shape[-1])) for a in (reference, actual))
    with np.errstate(invalid="ignore"):
        found = np.sum(np.exp(left) * (left - right), axis=1)
    # Rounding can make it a little less than nothing.
    return np.asarray(np.where(np.isfinite(found), np.maximum(found, 0.0), np.inf))


def _log_softmax(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        shifted = rows - rows.max(axis=1, keepdims=True)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def ranks(values: Floats) -> NDArray[np.float64]:
    """Return ranks from 1; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[inverse], np.float64)


def spearman(reference: Floats, actual: Floats) -> float:
    """Return Spearman's rank correlation; 0 where either side is empty, constant or not finite."""
    if not (np.size(reference) and np.all(np.isfinite(reference)) and np.all(np.isfinite(actual))):
        return 0.0
    left, right = ranks(reference), ranks(actual)
    left -= left.mean()
    right -= right.mean()
    spread = float(np.sqrt(np.sum(left**2) * np.sum(right**2)))
    return float(np.sum(left * right)) / spread if spread else 0.0


def micro_f1(reference: NDArray[np.bool_], actual: NDArray[np.bool_]) -> float:
    """Return the F1 score of decisions over all samples and labels together; 1 where neither side has any."""
    both = int(np.count_nonzero(reference & actual))
    decided = int(np.count_nonzero(reference) + np.count_nonzero(actual))
    return 2 * both / decided if decided else 1.0


def cosine_matrix(embeddings: Floats) -> NDArray[np.float64]:
    """Return the cosine of every row with every row, shape [n, n]."""
    rows = np.asarray(embeddings, np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    return np.asarray(unit @ unit.T)


def similarity_spearman(reference: Floats, actual: Floats) -> float:
    """Return Spearman's correlation of the pairwise cosines of two sets of embeddings, shapes [n, d]."""
    left, right = cosine_matrix(reference), cosine_matrix(actual)
    upper = np.triu_indices(len(left), k=1)
    return spearman(left[upper], right[upper])


def similarity_spearman_interval(
    reference: Floats, actual: Floats, *, seed: int, resamples: int = 200, confidence: float = 0.95
) -> Interval:
    """Return `similarity_spearman` with a percentile bootstrap over texts (Efron & Tibshirani 1993, ch. 13).

    Texts are resampled, not pairs, since pairs that share a text are not independent; a text drawn twice is not
    paired with itself.
    """
    left, right = cosine_matrix(reference), cosine_matrix(actual)
    upper = np.triu_indices(len(left), k=1)

    def resampled(rows: NDArray[np.int64]) -> float:
        first, second = rows[upper[0]], rows[upper[1]]
        differ = first != second
        pairs = (first[differ], second[differ])
        return spearman(left[pairs], right[pairs])

    value = spearman(left[upper], right[upper])
    return bootstrap(value, len(left), resampled, seed=seed, resamples=resamples, confidence=confidence)


def mean_interval(values: Floats, *, seed: int, resamples: int = 1000, confidence: float = 0.95) -> Interval:
    """Return a mean with its percentile bootstrap interval."""
    values = np.asarray(values, np.float64)
    return bootstrap(
        float(values.mean()),
        len(values),
        lambda rows: float(values[rows].mean()),
        seed=seed,
        resamples=resamples,
        confidence=confidence,
    )


def ratio_interval(
    numerator: Floats, denominator: Floats, *, seed: int, resamples: int = 1000, confidence: float = 0.95
) -> Interval:
    """Return the ratio of two means over the same samples with its percentile bootstrap interval.

    Where the denominator's mean is 0 the ratio is 0.
    """
    top, bottom = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)

    def ratio(rows: NDArray[np.int64]) -> float:
        below = float(bottom[rows].mean())
        return float(top[rows].mean()) / below if below else 0.0

    value = ratio(np.arange(len(top)))
    return bootstrap(value, len(top), ratio, seed=seed, resamples=resamples, confidence=confidence)


def bootstrap(
    value: float,
    samples: int,
    statistic: Callable[[NDArray[np.int64]], float],
    *,
    seed: int,
    resamples: int,
    confidence: float,
) -> Interval:
    """Return a figure with the percentile interval of a statistic over resampled row numbers.

    The interval is widened to hold the figure itself: resampling draws fewer distinct rows, which can bias it.
    """
    random = np.random.default_rng(seed)
    drawn = [statistic(random.integers(0, samples, samples)) for _ in range(resamples)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(value, min(value, float(low)), max(value, float(high)))


def neighbour_overlap(reference: Floats, actual: Floats, neighbours: int = 10) -> float:
    """Return the mean share of each row's nearest neighbours (by cosine) that both sets of embeddings agree on."""
    count = min(neighbours, len(reference) - 1)
    if count < 1:
        return 1.0
    left, right = _nearest(reference, count), _nearest(actual, count)
    shared = [len(set(a) & set(b)) for a, b in zip(left.tolist(), right.tolist(), strict=True)]
    return float(np.mean(shared)) / count


def _nearest(embeddings: Floats, count: int) -> NDArray[np.int64]:
    similarity = cosine_matrix(embeddings)
    np.fill_diagonal(similarity, -np.inf)
    return np.argsort(-similarity, axis=1, kind="stable")[:, :count]
