"""Any model is used by its named tensors, and judged by the output that loses most."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_runtime.bundle.tensor_specs import Signature, SymbolicDim, TensorSpec
from fastserve_runtime.conformance.comparison import Comparison
from fastserve_runtime.conformance.metrics import sqnr_db
from fastserve_runtime.errors import InputError
from fastserve_runtime.pipelines.tensor_to_tensor import RELATIVE_ERROR, SQNR, open_pipeline, task_metric
from fastserve_runtime.preprocessors.kinds.tensors import Tensors
from fastserve_runtime.sessions.tensors import checked_inputs

GRAPH = Signature(
    (
        TensorSpec("image", "float32", (1, 3, SymbolicDim("height", 2, 8)), ("batch", "channels", "height")),
        TensorSpec("is_dark", "bool", (), ()),
    ),
    (TensorSpec("sums", "float32", (1, 3), ("batch", "channels")), TensorSpec("count", "int32", ())),
)


class Summing:
    """Adds an image up, with the other sign if it is dark, and counts its rows."""

    def __init__(self) -> None:
        self.graphs = {"main": GRAPH}

    def run(self, inputs, *, graph=None):
        given = checked_inputs(GRAPH, inputs)
        sign = np.float32(-1 if given["is_dark"] else 1)
        return {"sums": given["image"].sum(2) * sign, "count": np.asarray(given["image"].shape[2], np.int32)}

    def close(self) -> None:
        self.graphs = {}


def images(count: int, height: int = 4) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 3, height)).astype(np.float32)


def test_samples_go_in_and_come_out_along_the_first_axis() -> None:
    with open_pipeline(Summing(), Tensors(), {}) as pipeline:
        outputs = pipeline({"image": images(3), "is_dark": [True, False, True]})
    np.testing.assert_allclose(outputs["sums"], images(3).sum(2) * np.array([[-1], [1], [-1]]), rtol=1e-6)
    assert outputs["count"].tolist() == [4, 4, 4]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"image": images(2)}, "the model takes image, is_dark. Add: is_dark"),
        ({"image": images(2), "is_dark": [True] * 2, "label": [1] * 2}, "Leave out: label"),
        (
            {"image": images(2), "is_dark": [True]},
            "samples along their first axis: image 2, is_dark 1",
        ),
        ({"image": images(2), "is_dark": True}, "is_dark 0"),
        ({"image": images(0), "is_dark": []}, "image 0"),
        ({"image": images(1, 9), "is_dark": [True]}, r"shape \[1, 3, 9\]; the model takes \[1, 3, height 2..8\]"),
        ({"image": images(1), "is_dark": [2]}, "values that bool cannot hold"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_pipeline(Summing(), Tensors(), {})(inputs)


def compared(reference: dict[str, np.ndarray], actual: dict[str, np.ndarray]) -> Comparison:
    return Comparison(reference, actual)


@given(st.floats(-40, 40))
def test_quality_is_the_signal_to_noise_ratio_on_a_scale_that_ends_at_one(decibels: float) -> None:
    signal, noise = (np.random.default_rng(seed).normal(size=(9, 5)) for seed in (1, 2))
    noisy = signal + noise * 10 ** (decibels / 20)
    found = task_metric(compared({"y": signal}, {"y": noisy}))
    expected = max(0.0, 1 - 10 ** (-sqnr_db(signal, noisy) / 10))
    assert found.value == pytest.approx(expected, abs=1e-9)
    assert found.low <= found.value <= found.high
    if expected > 0:
        assert found.beside[SQNR] == pytest.approx(sqnr_db(signal, noisy), abs=1e-6)
        assert found.beside[RELATIVE_ERROR] == pytest.approx(np.sqrt(1 - expected))


def test_the_worst_output_counts() -> None:
    values = np.arange(12.0).reshape(4, 3)
    found = task_metric(compared({"good": values, "bad": values}, {"good": values, "bad": values * 1.1}))
    assert (found.name, found.samples) == ("worst output's kept energy (bad)", 4)
    assert found.value == pytest.approx(0.99)


def test_integers_and_truth_values_are_right_or_wrong() -> None:
    classes = np.array([[1, 200], [3, 4]])
    found = task_metric(compared({"classes": classes}, {"classes": np.array([[1, 201], [3, 4]])}))
    assert found.value == 0.75
    assert task_metric(compared({"is_dark": classes > 3}, {"is_dark": classes > 3})).value == 1


def test_values_that_are_not_finite_are_worth_nothing() -> None:
    values = np.ones((2, 2))
    for bad in (np.nan, np.inf):
        assert task_metric(compared({"y": values}, {"y": np.array([[1, bad], [1, 1]])})).value == 0
    assert task_metric(compared({"y": np.zeros((2, 2))}, {"y": values})).value == 0
    assert task_metric(compared({"y": np.zeros((2, 2))}, {"y": np.zeros((2, 2))})).value == 1
