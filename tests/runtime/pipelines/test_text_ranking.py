"""Ranking documents for a query, by a bundle that is made by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastserve_runtime
from fastserve_runtime.conformance.comparison import Comparison
from fastserve_runtime.conformance.retrieval import QUERY
from fastserve_runtime.errors import BundleError, UsageError
from fastserve_runtime.pipelines import text_ranking
from fastserve_runtime.pipelines.text_ranking import NDCG, RankedDocument, TextRanking
from manifests import write_directory
from pair_bundles import expected_logits, pair_bundle

DOCUMENTS = ["a b", "c", "d e", "f", "a"]


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., TextRanking]:
    def load(**settings: Any) -> TextRanking:
        document, contents = pair_bundle(**settings)
        return fastserve_runtime.load(write_directory(tmp_path / "rank.fsb", document, contents))  # type: ignore[return-value]

    return load


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def test_documents_come_by_their_scores_with_their_places_among_those_given(load: Callable[..., TextRanking]) -> None:
    expected = sigmoid(expected_logits([("b", d) for d in DOCUMENTS]))
    with load() as ranker:
        found = ranker.rank("b", DOCUMENTS)
        best = ranker.rank("b", DOCUMENTS, top_k=2)
    order = np.argsort(-expected)
    assert [d.index for d in found] == order.tolist()
    assert [d.text for d in found] == [DOCUMENTS[i] for i in order]
    np.testing.assert_allclose([d.score for d in found], expected[order], rtol=1e-5)
    assert best == found[:2]
    assert isinstance(found[0], RankedDocument)


def test_pairs_have_scores_in_their_order_and_one_pair_has_one(load: Callable[..., TextRanking]) -> None:
    pairs = [("a", d) for d in DOCUMENTS]
    with load(activation="identity") as ranker:
        scores = ranker(pairs)
        assert ranker(pairs[1]) == scores[1]
    np.testing.assert_allclose(scores, expected_logits(pairs), rtol=1e-5)


def test_the_second_text_is_told_from_the_first(load: Callable[..., TextRanking]) -> None:
    with load() as ranker:
        assert ranker(("a", "b")) != ranker(("b", "a"))


@pytest.mark.parametrize(("documents", "top_k"), [([], None), ("one text", None), (["a"], 0)])
def test_what_cannot_be_ranked_is_refused(load: Callable[..., TextRanking], documents: Any, top_k: Any) -> None:
    with load() as ranker, pytest.raises(UsageError):
        ranker.rank("a", documents, top_k=top_k)


def test_single_texts_are_refused(load: Callable[..., TextRanking]) -> None:
    with load() as ranker, pytest.raises(UsageError, match="takes pairs of texts"):
        ranker(["a"])


@pytest.mark.parametrize("activation", ["tanh", 1, None])
def test_an_unknown_activation_is_refused(load: Callable[..., TextRanking], activation: Any) -> None:
    with pytest.raises(BundleError, match=r"task_settings.activation is .* known are softmax, sigmoid, identity"):
        load(activation=activation)


def test_the_metric_is_the_correlation_of_scores_with_the_order_of_each_query_beside() -> None:
    scores = np.random.default_rng(1).normal(size=(40, 1))
    queries = np.repeat(np.arange(4), 10)
    same = text_ranking.task_metric(Comparison({"logits": scores}, {"logits": 2 * scores + 1}, {QUERY: queries}))
    assert same.value == pytest.approx(1)
    assert same.beside[NDCG] == pytest.approx(1)
    turned = text_ranking.task_metric(Comparison({"logits": scores}, {"logits": -scores}, {QUERY: queries}))
    assert turned.value == pytest.approx(-1)
    assert turned.beside[NDCG] < 0.7
    assert NDCG not in text_ranking.task_metric(Comparison({"logits": scores}, {"logits": scores})).beside
    broken = Comparison({"logits": scores}, {"logits": scores * np.nan}, {QUERY: queries})
    assert text_ranking.task_metric(broken).value == 0
