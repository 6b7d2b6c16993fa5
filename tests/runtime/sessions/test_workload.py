"""Which calls of a model are timed, and how its samples are run, is the task's to say."""

from __future__ import annotations

import numpy as np
import pytest

from fastserve_runtime.bundle.manifest import Graph
from fastserve_runtime.bundle.tensor_specs import Signature, SymbolicDim, TensorSpec
from fastserve_runtime.engines import installed_engine
from fastserve_runtime.generation.decoding_workload import GenerationWorkload
from fastserve_runtime.loading import open_model
from fastserve_runtime.sessions.workload import Samples, open_workload, run_golden

LENGTH = SymbolicDim("length", 2, 6)
GRAPH = Signature(
    (
        TensorSpec("input_ids", "int32", (1, LENGTH), ("batch", "tokens")),
        TensorSpec("attention_mask", "float32", (1, LENGTH), ("batch", "tokens")),
    ),
    (TensorSpec("logits", "float32", (1, 1), ("batch", "classes")),),
)


class Summing:
    """A session that sums its ids, and notes what it is given."""

    def __init__(self) -> None:
        self.graphs = {"main": GRAPH}
        self.seen: list[dict[str, np.ndarray]] = []

    def run(self, inputs, *, graph=None):
        self.seen.append(inputs)
        return {"logits": inputs["input_ids"].sum(1, keepdims=True).astype(np.float32)}


def inputs(*lengths: int) -> dict[str, np.ndarray]:
    ids = np.array([[i + 1] * length + [0] * (6 - length) for i, length in enumerate(lengths)], np.int32)
    return {"input_ids": ids, "attention_mask": (ids > 0).astype(np.float32), "extra": np.ones((9, 2))}


@pytest.mark.parametrize(
    ("timed", "taken"), [(None, [1, 2, 3, 1]), (2, [1, 2, 1, 2]), (0, [1] * 4), (99, [1, 2, 3, 1])]
)
def test_the_first_samples_are_timed_in_turn_padding_and_all(timed: int | None, taken: list[int]) -> None:
    session = Summing()
    workload = Samples(session, inputs(2, 3, 6), timed)
    for index in range(4):
        workload.run(index)
    assert [call["input_ids"][0, 0] for call in session.seen] == taken
    assert {call["input_ids"].shape for call in session.seen} == {(1, 6)}
    assert session.seen[0].keys() == {"input_ids", "attention_mask"}


def test_every_sample_is_run_once_at_its_own_length() -> None:
    session = Summing()
    outputs, seconds = Samples(session, inputs(2, 3, 6), 1).run_all()
    np.testing.assert_array_equal(outputs["logits"], [[2], [6], [18]])
    assert [call["input_ids"].shape[1] for call in session.seen] == [2, 3, 6]
    assert len(seconds) == 3


def test_single_calls_have_no_further_figures() -> None:
    workload = open_workload("text-classification", Summing(), inputs(2))
    assert isinstance(workload, Samples)
    assert workload.first_token() is None


def test_goldens_of_encoders_are_run_as_samples_are() -> None:
    np.testing.assert_array_equal(run_golden("text-classification", Summing(), inputs(2, 3))["logits"], [[2], [6]])


def test_a_task_may_have_its_own(decoder_file) -> None:
    tokens = np.arange(12, dtype=np.int32).reshape(2, 6)
    traces = {
        "tokens": tokens,
        "length": np.array([6, 4], np.int32),
        "prompt": np.array([3, 1], np.int32),
        "candidates": np.zeros((2, 6, 1), np.int32),
        "scored": np.ones((2, 6), bool),
    }
    with open_model(decoder_file) as session:
        graphs = {"main": Graph(decoder_file.name, "main", _with_context(session.graphs["main"], 32))}
    with installed_engine("onnx").open_session(decoder_file, graphs, threads=1) as session:
        workload = open_workload("text-generation", session, traces, 1)
        assert isinstance(workload, GenerationWorkload)
        assert workload.prompt_tokens == 16
        outputs, seconds = workload.run_all()
        assert len(seconds) == 2
        golden = run_golden("text-generation", session, traces)
    assert golden.keys() == outputs.keys() == {"log_probabilities", "next_token"}
    for name, expected in outputs.items():
        np.testing.assert_array_equal(golden[name], expected)


def _with_context(graph: Signature, context: int) -> Signature:
    """A bare file leaves open how many tokens its cache has; a bundle's manifest does not."""
    inputs = tuple(
        TensorSpec(t.name, t.dtype, (*t.dims[:2], SymbolicDim("past", 1, context), t.dims[3]))
        if t.name.startswith("past_key_values")
        else t
        for t in graph.inputs
    )
    return Signature(inputs, graph.outputs)
