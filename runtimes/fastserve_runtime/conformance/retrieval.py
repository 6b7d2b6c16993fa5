"""Measures of rankings: nDCG and MRR, over the documents of each query."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUERY = "query"
"""Beside the inputs of evaluation samples: the number of each sample's query, shape [n]."""
DEPTH = 10
"""So many of the best documents count."""


def ndcg(relevance: NDArray[np.floating], scores: NDArray[np.floating], depth: int = DEPTH) -> float:
    """Return the normalised discounted cumulative gain of an order (Järvelin & Kekäläinen 2002), gains as they are.

    Args:
        relevance: of each document, at least 0, shape [documents].
        scores: by which they are ordered; what is not finite comes last. Equal ones share the mean of their places'
            discounts, so that a model that scores all alike gains nothing by the order in which they were given.
        depth: how many of the best count.

    Returns:
        0 to 1; 0 where no document is relevant.
    """
    gains = np.asarray(relevance, np.float64)
    discounts = _discounts(len(gains), depth)
    best = float(np.sort(gains)[::-1] @ discounts)
    return float(gains @ _shared(scores, discounts)) / best if best else 0.0


def reciprocal_rank(relevance: NDArray[np.floating], scores: NDArray[np.floating], depth: int = DEPTH) -> float:
    """Return 1 ÷ the place of the first relevant document (relevance above 0) among the best; 0 where none is there.

    Of documents with equal scores, relevant ones stand last.
    """
    wanted = np.asarray(relevance) > 0
    order = np.lexsort((wanted, -_ordered(scores)))[:depth]
    places = np.flatnonzero(wanted[order])
    return 1 / (int(places[0]) + 1) if places.size else 0.0


def mean_ndcg(
    relevance: NDArray[np.floating], scores: NDArray[np.floating], queries: NDArray[np.generic], depth: int = DEPTH
) -> float:
    """Return the mean nDCG over queries with several documents, of which one is relevant; 0 where there is none.

    Args:
        relevance: of each sample's document, shape [n].
        scores: likewise.
        queries: the number of each sample's query.
        depth: how many of the best documents count.
    """
    found = ndcg_by_query(relevance, scores, queries, depth)
    return float(found.mean()) if found.size else 0.0


def ndcg_by_query(
    relevance: NDArray[np.floating], scores: NDArray[np.floating], queries: NDArray[np.generic], depth: int = DEPTH
) -> NDArray[np.float64]:
    """Return the nDCG of each query that counts; see `mean_ndcg`."""
    return np.array([ndcg(relevance[rows], scores[rows], depth) for rows in counted(relevance, queries)])


def reciprocal_ranks(
    relevance: NDArray[np.floating], scores: NDArray[np.floating], queries: NDArray[np.generic], depth: int = DEPTH
) -> NDArray[np.float64]:
    """Return the reciprocal rank of each query that counts; see `mean_ndcg`. Their mean is the MRR."""
    return np.array([reciprocal_rank(relevance[rows], scores[rows], depth) for rows in counted(relevance, queries)])


def counted(relevance: NDArray[np.floating], queries: NDArray[np.generic]) -> Iterator[NDArray[np.intp]]:
    """Give the rows of each query with several documents of which one is relevant."""
    for query in np.unique(queries):
        rows = np.flatnonzero(queries == query)
        if len(rows) > 1 and np.any(relevance[rows] > 0):
            yield rows


def order_relevance(scores: NDArray[np.floating], queries: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return as each document's relevance how many of its query's documents stand below it, shape [n]."""
    below = np.zeros(len(scores))
    for query in np.unique(queries):
        rows = np.flatnonzero(queries == query)
        below[rows] = np.searchsorted(np.sort(scores[rows]), scores[rows])
    return below


def _discounts(count: int, depth: int) -> NDArray[np.float64]:
    places = np.arange(count)
    return np.where(places < depth, 1 / np.log2(places + 2), 0.0)


def _shared(scores: NDArray[np.floating], discounts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each document's discount by its score, equal scores sharing theirs."""
    values, inverse = np.unique(-_ordered(scores), return_inverse=True)
    order = np.argsort(-_ordered(scores), kind="stable")
    sums = np.zeros(len(values))
    np.add.at(sums, inverse[order], discounts)
    means: NDArray[np.float64] = sums / np.bincount(inverse)
    return means[inverse]


def _ordered(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    numbers = np.asarray(scores, np.float64)
    return np.where(np.isfinite(numbers), numbers, np.finfo(np.float64).min)
