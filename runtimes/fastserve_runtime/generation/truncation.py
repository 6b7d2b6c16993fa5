"""Which tokens may be drawn: truncations of a distribution beside top-k and top-p, as Transformers' warpers have them.

Each takes probabilities that add up to 1 and tells which of them stay, as an array of bool of the same shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Probabilities = NDArray[np.float64]
    Kept = NDArray[np.bool_]


def min_p(probabilities: Probabilities, share: float) -> Kept:
    """Keep those that have at least such a share of the best one's probability (arXiv 2407.01082)."""
    return np.asarray(probabilities >= share * probabilities.max())


def typical_p(probabilities: Probabilities, mass: float) -> Kept:
    """Keep those whose surprise is nearest the expected one, until they have so much together (arXiv 2202.00666)."""
    surprise = -_logarithms(probabilities)
    distance = np.abs(surprise - entropy(probabilities))
    order = np.argsort(distance, kind="stable")
    reached = np.cumsum(probabilities[order])
    last = min(int((reached < mass).sum()), order.size - 1)
    kept = np.asarray(distance <= distance[order[last]])
    kept[order[0]] = True
    return kept


def epsilon_cutoff(probabilities: Probabilities, minimum: float) -> Kept:
    """Keep those that have at least so much, and the best (arXiv 2210.15191)."""
    return np.asarray((probabilities >= minimum) | (probabilities >= probabilities.max()))


def eta_cutoff(probabilities: Probabilities, epsilon: float) -> Kept:
    """Keep those that have as much as the distribution's entropy lets expect, and the best (arXiv 2210.15191)."""
    minimum = min(epsilon, float(np.sqrt(epsilon) * np.exp(-entropy(probabilities))))
    return epsilon_cutoff(probabilities, minimum)


def entropy(probabilities: Probabilities) -> float:
    """Return the entropy of a distribution, in nats."""
    drawable = probabilities > 0
    return float(-(probabilities[drawable] * _logarithms(probabilities[drawable])).sum())


def _logarithms(probabilities: Probabilities) -> Probabilities:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(probabilities))
