"""Measures of rankings, beside scikit-learn's where it is there and values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_runtime.conformance.retrieval import (
    mean_ndcg,
    ndcg,
    ndcg_by_query,
    order_relevance,
    reciprocal_rank,
    reciprocal_ranks,
)

QUERIES = np.array([0, 0, 0, 1, 1])


def test_ndcg_discounts_gains_by_their_place() -> None:
    relevance = np.array([3.0, 2, 0])
    assert ndcg(relevance, np.array([3.0, 2, 1])) == 1
    # 2 / log2(2) + 3 / log2(3) of 3 / log2(2) + 2 / log2(3)
    assert ndcg(relevance, np.array([2.0, 3, 1])) == pytest.approx((2 + 3 / np.log2(3)) / (3 + 2 / np.log2(3)))
    assert ndcg(relevance, np.array([1.0, 2, 3]), depth=1) == 0
    assert ndcg(np.zeros(3), np.arange(3.0)) == 0


@given(st.permutations(range(6)))
def test_equal_scores_gain_nothing_by_the_order_in_which_they_were_given(order: list[int]) -> None:
    relevance, scores = np.array([1.0, 0, 0, 2, 0, 1]), np.array([1.0, 1, 1, 0, 0, 0])
    assert ndcg(relevance[order], scores[order]) == pytest.approx(ndcg(relevance, scores))
    assert reciprocal_rank(relevance[order], scores[order]) == reciprocal_rank(relevance, scores) == 1 / 3


def test_scores_that_are_not_finite_come_last() -> None:
    assert ndcg(np.array([1.0, 0]), np.array([np.nan, -1e9])) == pytest.approx(1 / np.log2(3))


def test_the_reciprocal_rank_looks_at_the_best_documents_alone() -> None:
    relevance = np.array([0.0, 0, 1])
    assert reciprocal_rank(relevance, np.array([3.0, 2, 1])) == pytest.approx(1 / 3)
    assert reciprocal_rank(relevance, np.array([3.0, 2, 1]), depth=2) == 0


def test_queries_are_judged_apart_and_those_without_a_relevant_document_do_not_count() -> None:
    relevance, scores = np.array([1.0, 0, 0, 0, 0]), np.array([0.0, 1, -1, 5, 6])
    assert ndcg_by_query(relevance, scores, QUERIES).tolist() == [pytest.approx(1 / np.log2(3))]
    assert reciprocal_ranks(relevance, scores, QUERIES).tolist() == [0.5]
    assert mean_ndcg(relevance, scores, np.arange(5)) == 0  # a query with one document has no order


def test_the_order_of_scores_is_a_relevance() -> None:
    scores = np.array([0.1, 0.9, 0.5, -1.0, -2.0])
    assert order_relevance(scores, QUERIES).tolist() == [0, 2, 1, 1, 0]
    assert mean_ndcg(order_relevance(scores, QUERIES), scores, QUERIES) == 1
    assert mean_ndcg(order_relevance(scores, QUERIES), -scores, QUERIES) < 0.7
