"""Quality by tasks: with labels and without, of outputs that are not finite, and its intervals."""

from __future__ import annotations

import numpy as np
import pytest

from fastserve_runtime.conformance.comparison import Comparison
from fastserve_runtime.conformance.metrics import similarity_spearman
from fastserve_runtime.conformance.quality import Quality
from fastserve_runtime.pipelines import feature_extraction, text_classification, text_ranking

RANDOM = np.random.default_rng(3)
EMBEDDINGS = RANDOM.normal(size=(40, 16)).astype(np.float32)
LOGITS = RANDOM.normal(size=(100, 3)).astype(np.float32)
MASK = {"attention_mask": np.ones((40, 4), np.float32)}


def judged(reference: np.ndarray, actual: np.ndarray, *, task=text_classification, labels=None, seed=0) -> Quality:
    inputs = {"attention_mask": np.ones((len(reference), 4), np.float32)}
    return task.quality(Comparison({"output": reference}, {"output": actual}, inputs, labels, seed))


@pytest.mark.parametrize(("task", "values"), [(feature_extraction, EMBEDDINGS), (text_classification, LOGITS)])
def test_what_equals_the_reference_has_a_quality_of_one(task, values: np.ndarray) -> None:
    quality = judged(values, values.copy(), task=task)
    assert (quality.value, quality.low, quality.high) == (1, 1, 1)
    assert quality.samples == len(values)


def test_quality_of_embeddings_is_the_rank_correlation_of_their_similarities() -> None:
    noisy = EMBEDDINGS + RANDOM.normal(size=EMBEDDINGS.shape) * 0.3
    quality = judged(EMBEDDINGS, noisy, task=feature_extraction)
    assert quality.name == "similarity Spearman"
    assert quality.value == pytest.approx(similarity_spearman(EMBEDDINGS, noisy))
    assert 0.5 < quality.low < quality.value <= quality.high < 1
    cosines = (EMBEDDINGS * noisy).sum(1) / np.linalg.norm(EMBEDDINGS, axis=1) / np.linalg.norm(noisy, axis=1)
    assert quality.beside["mean cosine"] == pytest.approx(cosines.mean())
    assert 0 < quality.beside["top-10 neighbour overlap"] < 1


def test_hidden_states_are_averaged_over_their_tokens_first() -> None:
    hidden = RANDOM.normal(size=(12, 4, 8))
    mask = (np.arange(4) < RANDOM.integers(1, 5, (12, 1))).astype(np.float32)
    other = np.where(mask[..., None] > 0, hidden, 1e6)
    quality = feature_extraction.quality(
        Comparison({"last_hidden_state": hidden}, {"last_hidden_state": other}, {"attention_mask": mask})
    )
    assert quality.value == pytest.approx(1)
    assert quality.beside["mean cosine"] == pytest.approx(1)
    broken = hidden[:, ::-1] * np.sign(RANDOM.normal(size=(12, 1, 8)))
    worse = Comparison({"last_hidden_state": hidden}, {"last_hidden_state": broken}, {"attention_mask": mask})
    assert feature_extraction.quality(worse).value < 0.9


def test_embeddings_that_are_not_finite_have_no_quality() -> None:
    for value in (np.nan, np.inf):
        broken = EMBEDDINGS.copy()
        broken[0, 0] = value
        quality = judged(EMBEDDINGS, broken, task=feature_extraction)
        assert (quality.value, quality.low, quality.high) == (0, 0, 0)


def test_without_labels_the_quality_is_how_often_both_agree() -> None:
    actual = LOGITS.copy()
    actual[:10] = -actual[:10]
    quality = judged(LOGITS, actual)
    assert quality.name == "top-1 agreement"
    assert quality.value == pytest.approx(0.9)
    assert 0.8 < quality.low < 0.9 < quality.high <= 1
    assert quality.beside == {}


def test_with_labels_the_quality_is_accuracy_by_the_references() -> None:
    labels = LOGITS.argmax(-1)
    labels[:20] = (labels[:20] + 1) % 3
    actual = LOGITS.copy()
    actual[80:] = np.roll(actual[80:], 1, axis=1)
    quality = judged(LOGITS, actual, labels=labels)
    assert quality.name == "accuracy ÷ reference's"
    assert quality.beside["reference's accuracy"] == pytest.approx(0.8)
    assert quality.beside["accuracy"] == pytest.approx(0.6)
    assert quality.beside["top-1 agreement"] == pytest.approx(0.8)
    assert quality.value == pytest.approx(0.75)
    assert quality.low < 0.75 < quality.high


def test_where_the_reference_is_never_right_the_quality_is_how_often_both_agree() -> None:
    actual = LOGITS.copy()
    actual[:10] = -actual[:10]
    quality = judged(LOGITS, actual, labels=(LOGITS.argmax(-1) + 1) % 3)
    assert (quality.name, quality.value) == ("top-1 agreement", pytest.approx(0.9))


@pytest.mark.parametrize("labels", [None, LOGITS.argmax(-1)])
def test_logits_that_are_not_finite_are_never_right(labels) -> None:
    actual = LOGITS.copy()
    actual[:50, 0] = np.nan
    actual[50:75] = np.inf
    assert judged(LOGITS, actual, labels=labels).value == pytest.approx(0.25)


@pytest.mark.parametrize(("task", "values"), [(feature_extraction, EMBEDDINGS), (text_classification, LOGITS)])
def test_the_seed_decides_the_interval_and_nothing_else(task, values: np.ndarray) -> None:
    noisy = values + RANDOM.normal(size=values.shape) * 0.5
    one, same, other = (judged(values, noisy, task=task, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one.value == other.value


REGRESSION, MULTI_LABEL = {"problem_type": "regression"}, {"problem_type": "multi_label_classification"}


def compared(task, reference: np.ndarray, actual: np.ndarray, settings: dict, *, labels=None, inputs=None) -> Quality:
    outputs = {"logits": reference}, {"logits": actual}
    return task.quality(Comparison(*outputs, inputs or {}, labels, settings=settings))


def test_values_are_judged_by_their_correlation_and_a_worse_one_is_not_as_good() -> None:
    values = RANDOM.normal(size=(200, 1))
    noisy = values + RANDOM.normal(size=values.shape)
    same = compared(text_classification, values, 2 * values + 1, REGRESSION)
    worse = compared(text_classification, values, noisy, {"problem_type": None})
    assert same.name == worse.name == "Spearman correlation"
    assert same.value == pytest.approx(1)
    assert same.beside["Pearson correlation"] == pytest.approx(1)
    assert 0.4 < worse.value < 0.9
    assert worse.low < worse.value < worse.high
    assert compared(text_classification, values, values * np.nan, REGRESSION).value == 0
    labelled = compared(text_classification, values, noisy, REGRESSION, labels=-values[:, 0])
    assert labelled.value == worse.value
    assert labelled.beside["reference's Spearman correlation with the labels"] == pytest.approx(-1)
    assert labelled.beside["Spearman correlation with the labels"] == pytest.approx(-worse.value)


def test_several_values_are_judged_by_the_mean_of_their_correlations() -> None:
    values = RANDOM.normal(size=(50, 2))
    assert compared(text_classification, values, values * [1, -1], REGRESSION).value == pytest.approx(0)


def test_labels_that_may_all_be_right_are_judged_one_by_one() -> None:
    logits = np.array([[2.0, -1], [-3, 1], [1, 1], [-1, -1]])
    other = logits * [[1, 1], [1, -1], [1, 1], [1, 1]]
    found = compared(text_classification, logits, other, MULTI_LABEL)
    assert found.name == "agreement per label"
    assert found.value == pytest.approx(7 / 8)
    # 3 decisions in common, of 4 and 3
    assert found.beside["micro-F1 against the reference"] == pytest.approx(2 * 3 / 7)
    truth = np.array([[1, 0], [0, 1], [1, 0], [0, 0]])
    labelled = compared(text_classification, logits, other, MULTI_LABEL, labels=truth)
    assert labelled.name == "micro-F1 ÷ reference's"
    assert labelled.beside["reference's micro-F1"] == pytest.approx(2 * 3 / 7)
    assert labelled.beside["micro-F1"] == pytest.approx(2 * 2 / 6)
    assert labelled.value == pytest.approx((4 / 6) / (6 / 7))
    broken = compared(text_classification, logits, other * np.nan, MULTI_LABEL, labels=truth)
    assert broken.value == broken.beside["micro-F1"] == 0


def test_rankings_are_judged_by_scores_and_with_relevance_by_ndcg() -> None:
    queries = np.repeat(np.arange(6), 10)
    scores, relevance = RANDOM.normal(size=(60, 1)), np.tile([2.0, 1, *[0] * 8], 6)
    noisy = scores + RANDOM.normal(size=scores.shape)
    inputs = {"query": queries}
    plain = compared(text_ranking, scores, noisy, {}, inputs=inputs)
    assert plain.name == "Spearman correlation"
    assert plain.value < 0.95
    assert 0.5 < plain.beside["nDCG@10 against the reference's order"] < 1
    labelled = compared(text_ranking, scores, noisy, {}, inputs=inputs, labels=relevance)
    assert labelled.name == "nDCG@10 ÷ reference's"
    assert labelled.samples == 6
    assert labelled.value == pytest.approx(labelled.beside["nDCG@10"] / labelled.beside["reference's nDCG@10"])
    assert 0 < labelled.beside["MRR@10"] <= 1
    assert labelled.beside["Spearman correlation"] == plain.value
    # Where no query has a relevant document there is nothing to judge by.
    assert compared(text_ranking, scores, noisy, {}, inputs=inputs, labels=relevance * 0).name == plain.name
