"""Samples go through a graph in the numbers that it takes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_runtime.bundle.tensor_specs import Signature, SymbolicDim, TensorSpec
from fastserve_runtime.errors import InputError
from fastserve_runtime.sessions.batching import LARGEST_BATCH, batch_size, run_samples
from fastserve_runtime.sessions.tensors import checked_inputs


class Doubling:
    """A session whose one graph doubles `x`; it checks what it gets like a real one."""

    def __init__(self, first):
        self.signature = Signature((TensorSpec("x", "float32", (first, 2)),), (TensorSpec("y", "float32", (first, 2)),))
        self.graphs = {"main": self.signature}
        self.sizes = []

    def run(self, inputs, *, graph=None):
        checked = checked_inputs(self.signature, inputs)
        self.sizes.append(len(checked["x"]))
        return {"y": checked["x"] * 2}


def samples(count):
    return np.arange(2 * count, dtype=np.float32).reshape(count, 2)


@pytest.mark.parametrize(
    ("first", "count", "sizes"),
    [
        (1, 3, [1, 1, 1]),
        (4, 4, [4]),
        (4, 6, [4, 4]),
        (4, 1, [4]),
        (SymbolicDim("batch", 1, 2), 5, [2, 2, 1]),
        (SymbolicDim("batch", 0, 2**31 - 1), LARGEST_BATCH + 1, [LARGEST_BATCH, 1]),
    ],
)
def test_samples_are_run_in_the_numbers_that_the_graph_takes(first, count, sizes):
    session = Doubling(first)
    np.testing.assert_array_equal(run_samples(session, {"x": samples(count)})["y"], samples(count) * 2)
    assert session.sizes == sizes


@given(st.integers(1, 9), st.integers(1, 20), st.booleans())
def test_every_sample_comes_back_once_and_in_order(size, count, is_fixed):
    session = Doubling(size if is_fixed else SymbolicDim("batch", 1, size))
    np.testing.assert_array_equal(run_samples(session, {"x": samples(count)})["y"], samples(count) * 2)
    assert batch_size(session.signature) == (size, is_fixed)


def test_inputs_that_the_graph_does_not_take_are_left_out():
    assert list(run_samples(Doubling(1), {"mask": samples(1), "x": samples(1)})) == ["y"]


def test_an_input_of_another_shape_is_refused_by_the_session():
    with pytest.raises(InputError, match="Input 'x' was given with shape"):
        run_samples(Doubling(1), {"x": np.ones((2, 5), np.float32)})
