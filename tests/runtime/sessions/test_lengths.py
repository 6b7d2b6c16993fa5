"""Samples run without the padding that their model can do without, and come back in one shape."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_runtime.bundle.tensor_specs import Signature, SymbolicDim, TensorSpec
from fastserve_runtime.sessions.batching import run_samples
from fastserve_runtime.sessions.lengths import Fit, full_graph, graph_for, own_tokens, takes_tokens
from fastserve_runtime.sessions.tensors import checked_inputs

OPEN = SymbolicDim("length", 2, 8)
BY_TOKEN = ("batch", "tokens")
INPUTS = {"input_ids": "int32", "attention_mask": "float32"}


def signature(length, *, batch=1, pooled=False):
    out, axes = ((batch, 3), ("batch", "channels")) if pooled else ((batch, length, 3), (*BY_TOKEN, "channels"))
    return Signature(
        tuple(TensorSpec(name, dtype, (batch, length), BY_TOKEN) for name, dtype in INPUTS.items()),
        (TensorSpec("out", "float32", out, axes),),
    )


class Encoder:
    """A session that repeats ids three times, or adds them up, and counts every token as work."""

    def __init__(self, graphs, *, pooled=False):
        self.graphs = graphs
        self.pooled = pooled
        self.calls = []

    def run(self, inputs, *, graph=None):
        given = checked_inputs(self.graphs[graph], inputs)
        ids, mask = given["input_ids"], given["attention_mask"]
        self.calls.append((graph, *ids.shape))
        states = np.repeat((ids * mask)[..., None], 3, axis=2).astype(np.float32)
        return {"out": states.sum(1) if self.pooled else states}


def padded(lengths, width=8):
    mask = (np.arange(width) < np.array(lengths)[:, None]).astype(np.float32)
    ids = np.arange(1, 1 + mask.size, dtype=np.int32).reshape(mask.shape)
    return {"input_ids": ids, "attention_mask": mask}


BUCKETS = {"length_4": signature(4), "length_8": signature(8), "length_2": signature(2)}


def test_a_sample_goes_to_the_graph_with_the_least_padding():
    session = Encoder(BUCKETS)
    outputs = run_samples(session, padded([1, 2, 3, 4, 5, 8]))
    assert sorted(session.calls) == sorted(
        [("length_2", 1, 2)] * 2 + [("length_4", 1, 4)] * 2 + [("length_8", 1, 8)] * 2
    )
    expected = padded([1, 2, 3, 4, 5, 8])
    np.testing.assert_array_equal(outputs["out"][..., 0], expected["input_ids"] * expected["attention_mask"])


def test_an_open_length_gets_just_the_tokens_but_never_fewer_than_it_takes():
    session = Encoder({"main": signature(OPEN)})
    outputs = run_samples(session, padded([1, 5, 8, 5]))
    assert sorted(c[2] for c in session.calls) == [2, 5, 5, 8]
    assert outputs["out"].shape == (4, 8, 3)


def test_samples_of_one_length_share_a_call_where_the_batch_is_open():
    session = Encoder({"main": signature(OPEN, batch=SymbolicDim("batch", 1, 16), pooled=True)}, pooled=True)
    outputs = run_samples(session, padded([3, 8, 3, 3]))
    assert sorted(session.calls) == [("main", 1, 8), ("main", 3, 3)]
    expected = padded([3, 8, 3, 3])
    np.testing.assert_array_equal(outputs["out"][:, 0], (expected["input_ids"] * expected["attention_mask"]).sum(1))


def test_padding_stays_where_it_is_wanted():
    session = Encoder({"main": signature(OPEN)})
    run_samples(session, padded([1, 5]), cut_padding=False)
    assert {c[2] for c in session.calls} == {8}


def test_a_fixed_length_gets_all_its_padding():
    session = Encoder({"main": signature(8)})
    run_samples(session, padded([1, 5]))
    assert {c[2] for c in session.calls} == {8}


@given(st.lists(st.integers(0, 8), min_size=1, max_size=9), st.booleans())
def test_cutting_never_changes_what_comes_out(lengths, pooled):
    graphs = {"main": signature(OPEN, pooled=pooled)}
    inputs = padded(lengths)
    both = [run_samples(Encoder(graphs, pooled=pooled), inputs, cut_padding=cut)["out"] for cut in (True, False)]
    np.testing.assert_array_equal(*both)


def test_a_hole_in_the_mask_is_no_padding():
    mask = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]], np.float32)
    assert own_tokens({"attention_mask": mask}).tolist() == [3, 4, 4]


@pytest.mark.parametrize(
    ("tokens", "fit"), [(1, Fit("length_2", 2)), (3, Fit("length_4", 4)), (8, Fit("length_8", 8)), (9, None)]
)
def test_no_graph_fits_more_tokens_than_it_takes(tokens, fit):
    assert graph_for(BUCKETS, tokens) == fit


def test_the_full_graph_is_the_one_of_the_most_tokens():
    assert full_graph(BUCKETS) == "length_8"
    images = {"a": Signature((TensorSpec("pixels", "float32", (1, 3), ("batch", "channels")),), ()), "b": signature(4)}
    assert full_graph(images) == "a"
    assert not takes_tokens(images)
