"""Quality of `text-ranking`: of scores, or with labels of the rankings of each query's documents.

Without labels it is Spearman's correlation between the variant's and the reference's scores, with nDCG@10 against the
reference's order beside it; with labels (how relevant a document is) the variant's nDCG@10 divided by the reference's,
with both and the MRR@10 beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastserve_runtime.conformance.metrics import ratio_interval
from fastserve_runtime.conformance.quality import Quality
from fastserve_runtime.conformance.retrieval import (
    DEPTH,
    QUERY,
    counted,
    mean_ndcg,
    ndcg_by_query,
    order_relevance,
    reciprocal_ranks,
)
from fastserve_runtime.conformance.scores import score_quality

if TYPE_CHECKING:
    from fastserve_runtime.conformance.comparison import Comparison

NDCG = f"nDCG@{DEPTH} against the reference's order"
NDCG_RATIO = "nDCG@10 ÷ reference's"


def quality(compared: Comparison) -> Quality:
    """Compare scores, or with labels the rankings of each query's documents."""
    by_scores = task_metric(compared)
    queries = compared.inputs.get(QUERY)
    if compared.labels is None or queries is None:
        return by_scores
    relevance = np.asarray(compared.labels, np.float64)
    if not any(True for _ in counted(relevance, queries)):
        return by_scores
    left, right = (scores[:, 0] for scores in compared.first_outputs())
    wanted, found = (ndcg_by_query(relevance, scores, queries) for scores in (left, right))
    interval = ratio_interval(found, wanted, seed=compared.seed)
    beside = {
        "nDCG@10": float(found.mean()),
        "reference's nDCG@10": float(wanted.mean()),
        "MRR@10": float(reciprocal_ranks(relevance, right, queries).mean()),
        "reference's MRR@10": float(reciprocal_ranks(relevance, left, queries).mean()),
        by_scores.name: by_scores.value,
    }
    return Quality(NDCG_RATIO, interval.value, interval.low, interval.high, len(found), beside)


def task_metric(compared: Comparison) -> Quality:
    """Compare scores by their rank correlation, and beside it the order of each query's documents.

    Args:
        compared: logits, shape [n, 1]; its inputs have `query`, the number of each sample's query, shape [n], where
            several documents share one.
    """
    left, right = compared.first_outputs()
    queries = compared.inputs.get(QUERY)
    beside = {}
    if queries is not None:
        beside[NDCG] = mean_ndcg(order_relevance(left[:, 0], queries), right[:, 0], queries)
    return score_quality(left, right, compared.seed, beside)
