import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_runtime.bundle.evaluation import Evaluation, compared_values, read_evaluation, write_evaluation
from fastserve_runtime.errors import BundleError
from fastserve_runtime.pipelines import feature_extraction, text_ranking


def evaluation(count=5):
    random = np.random.default_rng(count)
    inputs = {"input_ids": random.integers(0, 9, (count, 4)).astype(np.int32), "attention_mask": np.ones((count, 4))}
    return Evaluation(inputs, {"logits": random.normal(size=(count, 2)).astype(np.float32)})


@given(st.integers(1, 20))
def test_what_was_written_is_read_back(count):
    written = evaluation(count)
    found = read_evaluation(write_evaluation(written))
    assert len(found) == count
    for group in ("inputs", "reference"):
        left, right = getattr(written, group), getattr(found, group)
        assert left.keys() == right.keys()
        assert all(np.array_equal(left[n], right[n]) and left[n].dtype == right[n].dtype for n in left)


def test_equal_samples_give_equal_bytes():
    assert write_evaluation(evaluation()) == write_evaluation(evaluation())


def test_the_first_samples_are_cut_from_every_array():
    whole = evaluation(6)
    few = whole.first(2)
    assert len(few) == 2
    assert np.array_equal(few.reference["logits"], whole.reference["logits"][:2])
    assert len(whole.first(99)) == 6


@pytest.mark.parametrize("cut", [0, 10, 200])
def test_a_damaged_file_is_told(cut):
    with pytest.raises(BundleError, match="evaluation samples are damaged"):
        read_evaluation(write_evaluation(evaluation())[:cut])


@pytest.mark.parametrize(
    "arrays",
    [
        {"inputs/x": np.zeros((2, 1))},
        {"reference/y": np.zeros((2, 1))},
        {"inputs/x": np.zeros((2, 1)), "reference/y": np.zeros((3, 1))},
        {"inputs/x": np.zeros((0, 1)), "reference/y": np.zeros((0, 1))},
    ],
)
def test_arrays_that_do_not_fit_together_are_told(arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    with pytest.raises(BundleError, match="do not fit together"):
        read_evaluation(buffer.getvalue())


def test_outputs_are_compared_as_they_are_unless_the_pipeline_says_otherwise():
    hidden = np.arange(24.0).reshape(2, 3, 4)
    inputs = {"attention_mask": np.array([[1, 1, 0], [1, 0, 0]])}
    assert compared_values(text_ranking, {"logits": hidden}, inputs)["logits"] is hidden
    means = compared_values(feature_extraction, {"last_hidden_state": hidden}, inputs)["last_hidden_state"]
    np.testing.assert_array_equal(means, [hidden[0, :2].mean(0), hidden[1, 0]])
