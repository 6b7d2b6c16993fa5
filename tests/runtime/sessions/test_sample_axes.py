"""Samples reach a graph with the batch where it has it, or one by one where it has none."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fastserve_runtime.bundle.tensor_specs import Signature, SymbolicDim, TensorSpec
from fastserve_runtime.sessions.batching import batch_size, run_samples
from fastserve_runtime.sessions.sample_axes import as_call, as_samples, is_batched
from fastserve_runtime.sessions.tensors import checked_inputs
from fastserve_runtime.sessions.workload import Samples

MANY = SymbolicDim("n", 1, 4)
TIME_FIRST = Signature(
    (TensorSpec("series", "float32", (3, MANY, 2), ("time", "batch", "channels")),),
    (TensorSpec("sums", "float32", (2, MANY), ("channels", "batch")),),
)
SINGLE = Signature(
    (TensorSpec("series", "float32", (3, 2), ("time", "channels")), TensorSpec("gain", "float32", ())),
    (TensorSpec("sums", "float32", (2,), ("channels",)),),
)


class Summing:
    """Adds up a series over its time, and multiplies by the gain where there is one."""

    def __init__(self, signature: Signature) -> None:
        self.graphs = {"main": signature}
        self.calls = 0

    def run(self, inputs, *, graph=None):
        given = checked_inputs(self.graphs["main"], inputs)
        self.calls += 1
        return {"sums": np.asarray(given["series"].sum(0).T * given.get("gain", np.float32(1)), np.float32)}


def series(count: int) -> np.ndarray:
    return np.arange(count * 6, dtype=np.float32).reshape(count, 3, 2)


@given(st.integers(1, 9))
def test_a_batch_that_is_not_first_is_moved_there_and_back(count: int) -> None:
    session = Summing(TIME_FIRST)
    outputs = run_samples(session, {"series": series(count)})
    np.testing.assert_array_equal(outputs["sums"], series(count).sum(1))
    assert session.calls == -(-count // 4)


def test_a_graph_without_a_batch_gets_one_sample_a_call() -> None:
    session = Summing(SINGLE)
    gains = np.array([1, 2, 3], np.float32)
    outputs = run_samples(session, {"series": series(3), "gain": gains})
    np.testing.assert_array_equal(outputs["sums"], series(3).sum(1) * gains[:, None])
    assert session.calls == 3
    assert batch_size(SINGLE) == (1, True)
    assert not is_batched(SINGLE)


def test_what_is_timed_has_the_shape_that_the_graph_takes() -> None:
    session = Summing(SINGLE)
    workload = Samples(session, {"series": series(2), "gain": np.ones(2, np.float32)})
    assert workload.run(1)["sums"].shape == (2,)
    assert workload.run_all()[0]["sums"].shape == (2, 2)


def test_what_the_graph_does_not_have_stays() -> None:
    extra = np.zeros((2, 5))
    assert as_call({"extra": extra}, TIME_FIRST)["extra"] is extra
    assert as_samples({"extra": extra}, TIME_FIRST)["extra"] is extra
