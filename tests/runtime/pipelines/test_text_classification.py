import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import special

import fastserve_runtime
from fastserve_runtime.activations import sigmoid, softmax
from fastserve_runtime.conformance.comparison import Comparison
from fastserve_runtime.errors import BundleError
from fastserve_runtime.pipelines import text_classification
from fastserve_runtime.pipelines.text_classification import (
    Classification,
    MultiLabelClassification,
    open_pipeline,
)
from manifests import LABELS, expected_embeddings, text_bundle, write_directory

logits = arrays(float, st.tuples(st.integers(1, 3), st.integers(1, 5)), elements=st.floats(-1e4, 1e4))


@pytest.fixture
def load(tmp_path):
    def load(**settings):
        document, contents = text_bundle("logits")
        document["task_settings"] |= settings
        return fastserve_runtime.load(write_directory(tmp_path / "text.fsb", document, contents))

    return load


def test_one_text_gives_its_label_and_every_score(load):
    with load() as classify:
        result = classify("a b")
    scores = special.softmax(expected_embeddings(["a b"])[0].astype(float))
    assert isinstance(result, Classification)
    assert list(result.scores) == LABELS
    np.testing.assert_allclose(list(result.scores.values()), scores, rtol=1e-5)
    assert result.label == LABELS[scores.argmax()]
    assert result.score == result.scores[result.label] == max(result.scores.values())
    assert sum(result.scores.values()) == pytest.approx(1)


def test_several_texts_give_a_list_in_their_order(load):
    texts = ["a", "b c", "f f f", ""]
    with load() as classify:
        results = classify(texts)
        assert [classify(text) for text in texts] == results
    assert [r.label for r in results] == [LABELS[i] for i in expected_embeddings(texts).argmax(axis=1)]
    assert len({r.label for r in results}) > 1
    assert classify.task == "text-classification"


def test_labels_that_do_not_exclude_each_other_have_scores_of_their_own(load):
    with load(problem_type="multi_label_classification") as classify:
        result = classify("a b")
    np.testing.assert_allclose(
        list(result.scores.values()), special.expit(expected_embeddings(["a b"])[0].astype(float)), rtol=1e-5
    )


@pytest.mark.parametrize("problem", [None, "single_label_classification"])
def test_any_other_problem_has_labels_that_exclude_each_other(load, problem):
    with load(problem_type=problem) as classify:
        assert sum(classify("a").scores.values()) == pytest.approx(1)


@pytest.mark.parametrize("settings", [{}, {"labels": None}, {"labels": [1, 2]}, {"labels": "ab"}])
def test_a_bundle_without_labels_is_refused(settings):
    with pytest.raises(BundleError, match=r"task_settings.*labels"):
        open_pipeline(None, None, settings)


@pytest.mark.parametrize("labels", [[], LABELS[:3], [*LABELS, "more"]])
def test_labels_that_are_not_as_many_as_the_models_are_refused(load, labels):
    with pytest.raises(BundleError, match=f"its model scores 4 labels and {len(labels)} are named"):
        load(labels=labels)


@given(logits)
def test_softmax_is_scipys(values):
    np.testing.assert_allclose(softmax(values), special.softmax(values, axis=-1), atol=1e-12)


@given(logits)
def test_sigmoid_is_scipys(values):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(sigmoid(values), special.expit(values), atol=1e-12)


def test_a_long_text_that_is_split_gets_the_weighted_mean_of_its_windows_scores(load):
    with load() as classify:
        first, second = (special.softmax(row.astype(float)) for row in expected_embeddings(["a b c d e f", "b b c"]))
        result = classify(["f", "a b c d e f b b c"], long_text="split")[1]
        np.testing.assert_allclose(list(result.scores.values()), (first * 6 + second * 3) / 9, rtol=1e-5)
        assert sum(result.scores.values()) == pytest.approx(1)
        with pytest.warns(UserWarning, match="cut off"):
            assert classify("a b c d e f b b c") == classify("a b c d e f")


def test_a_flip_between_equals_costs_nothing_and_one_against_certainty_costs_all():
    reference = {"logits": np.array([[0.0, 0.01], [8.0, -8.0], [-8.0, 8.0], [8.0, -8.0]])}
    near, far = (reference["logits"].copy() for _ in range(2))
    near[0], far[1] = near[0][::-1], far[1][::-1]
    kept = text_classification.task_metric(Comparison(reference, {"logits": near}))
    lost = text_classification.task_metric(Comparison(reference, {"logits": far}))
    assert kept.name == "expected accuracy ÷ reference's"
    assert kept.value == pytest.approx(1, abs=0.002)
    assert lost.value == pytest.approx(2.5 / 3.5, abs=0.01)
    assert lost.low < lost.value < lost.high
    assert text_classification.task_metric(Comparison(reference, {"logits": far * np.nan})).value == 0


def test_a_single_score_is_compared_by_its_order():
    scores = {"logits": np.array([[0.1], [0.7], [0.3], [2.0]])}
    stretched = Comparison(scores, {"logits": scores["logits"] * 3})
    assert text_classification.task_metric(stretched).value == pytest.approx(1)
    found = text_classification.task_metric(Comparison(scores, {"logits": -scores["logits"]}))
    assert (found.name, found.value) == ("Spearman correlation", pytest.approx(-1))
    assert text_classification.task_metric(Comparison(scores, {"logits": scores["logits"] * np.inf})).value == 0


def test_values_are_given_as_they_are(load):
    with load(problem_type="regression", activation="identity") as values:
        result = values("a b")
    np.testing.assert_allclose(list(result.scores.values()), expected_embeddings(["a b"])[0], rtol=1e-5)


def test_labels_that_do_not_exclude_each_other_are_a_list(load):
    with load(problem_type="multi_label_classification") as classify:
        result = classify("a b")
    likely = [label for label, score in result.scores.items() if score >= 0.5]
    assert isinstance(result, MultiLabelClassification)
    assert sorted(result.labels) == sorted(likely)
    assert 0 < len(likely) < len(LABELS)
    assert list(result.labels) == sorted(likely, key=result.scores.__getitem__, reverse=True)
    assert result.label == result.labels[0]


def test_a_named_activation_makes_the_scores(load):
    with load(activation="sigmoid") as classify:
        result = classify("a b")
    expected = special.expit(expected_embeddings(["a b"])[0].astype(float))
    np.testing.assert_allclose(list(result.scores.values()), expected, rtol=1e-5)
    assert not isinstance(result, MultiLabelClassification)


@pytest.mark.parametrize(
    ("named", "labels", "found"),
    [
        (None, 1, "regression"),
        ("single_label_classification", 1, "regression"),
        ("multi_label_classification", 1, "multi_label_classification"),
        ("regression", 3, "regression"),
        (None, 3, None),
    ],
)
def test_one_output_is_a_value_unless_the_config_says_otherwise(named, labels, found):
    assert text_classification.problem_type(named, labels) == found


def test_decisions_on_labels_are_weighed_by_the_reference():
    settings = {"problem_type": "multi_label_classification"}
    reference = {"logits": np.array([[5.0, -5, 0.01]] * 20)}
    flipped_even = {"logits": np.array([[5.0, -5, -0.01]] * 20)}
    flipped_sure = {"logits": np.array([[-5.0, -5, 0.01]] * 20)}
    broken = {"logits": reference["logits"] * np.nan}
    same, even, sure, none = (
        text_classification.task_metric(Comparison(reference, actual, settings=settings)).value
        for actual in (reference, flipped_even, flipped_sure, broken)
    )
    assert same == pytest.approx(1)
    assert even > 0.99
    assert sure < 0.7
    assert none == 0
