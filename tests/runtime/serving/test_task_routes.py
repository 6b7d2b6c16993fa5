"""Routes that tasks bring themselves: answers to questions over HTTP."""

from __future__ import annotations

import numpy as np
import pytest

from fastserve_runtime.bundle.tensor_specs import Signature, SymbolicDim, TensorSpec
from fastserve_runtime.pipelines.question_answering import QuestionAnswering
from fastserve_runtime.pipelines.tensor_to_tensor import TensorToTensor, json_values
from fastserve_runtime.preprocessors.context_windows import ContextSettings
from fastserve_runtime.preprocessors.text_pairs import TextPairPreprocessor, TextPairSettings
from fastserve_runtime.sessions.tensors import checked_inputs
from pair_bundles import pair_tokenizer_json
from questions import logits


class Reader(QuestionAnswering):
    """Answers by logits that are a function of the tokens."""

    def _run(self, windows) -> dict[str, np.ndarray]:
        return dict(zip(("start_logits", "end_logits"), logits(windows.tensors["input_ids"]), strict=True))

    def close(self) -> None: ...


@pytest.fixture
def reader() -> Reader:
    settings = TextPairSettings(12, 0, "[PAD]", token_types=True, context=ContextSettings(2, 4))
    return Reader(object(), TextPairPreprocessor(pair_tokenizer_json(), settings))


def test_questions_get_answers(start, reader) -> None:
    asked = [{"question": "a", "context": "b c d e f"}, {"question": "d", "context": "a"}]
    answer = start({"reader": reader}).post("/v1/answer", {"input": asked, "top_k": 2}).json()
    wanted = reader([("a", "b c d e f"), ("d", "a")], top_k=2)
    assert (answer["object"], answer["model"]) == ("list", "reader")
    for one, own in zip(answer["data"], wanted, strict=True):
        assert [(a["answer"], a["start"], a["end"]) for a in one["answers"]] == [
            (w.answer, w.start, w.end) for w in own
        ]
    single = start({"reader": reader}).post("/v1/answer", {"input": asked[1]}).json()
    assert len(single["data"]) == len(single["data"][0]["answers"]) == 1


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({}, "no 'input'"),
        ({"input": "a"}, "no 'input'"),
        ({"input": []}, "none was given"),
        ({"input": {"question": "a", "context": ""}}, "The context of question 1 is empty"),
        ({"input": {"question": "a", "context": "b"}, "top_k": True}, "top_k is True"),
        ({"input": {"question": "a", "context": "b"}, "top_k": 0}, "top_k is 0"),
        ({"input": {"question": "a", "context": "b"}, "temperature": 1}, "has the field 'temperature'"),
    ],
)
def test_what_asks_nothing_is_refused(start, reader, body: dict, problem: str) -> None:
    refused = start({"reader": reader}).post("/v1/answer", body)
    assert refused.status_code == 400
    assert problem in refused.json()["error"]["message"]


def test_a_server_without_readers_has_no_such_route(start, reader) -> None:
    refused = start({"reader": reader}).post("/v1/classify", {"model": "reader", "input": "a"})
    assert refused.status_code == 400
    assert "Use /v1/answer" in refused.json()["error"]["message"]


class Halving:
    """A session that halves its input, an open batch of three numbers, and counts them."""

    batch = SymbolicDim("batch", 1, 8)
    graphs = {  # noqa: RUF012 -- as sessions have it
        "main": Signature(
            (TensorSpec("x", "float32", (batch, 3), ("batch", "axis1")),),
            (TensorSpec("half", "float32", (batch, 3), ("batch", "axis1")),),
        )
    }

    def run(self, inputs, graph: str | None = None) -> dict[str, np.ndarray]:
        return {"half": checked_inputs(self.graphs["main"], inputs)["x"] / 2}

    def close(self) -> None: ...


def test_tensors_are_given_and_taken_as_nested_lists(start) -> None:
    server = start({"halving": TensorToTensor(Halving())})
    answer = server.post("/v1/tensors", {"input": {"x": [[1, 2, 3], [4, 5, 6.5]]}}).json()
    assert json_values([[1.5, float("nan")], float("inf"), True]) == [[1.5, None], None, True]
    assert [one["outputs"] for one in answer["data"]] == [{"half": [0.5, 1.0, 1.5]}, {"half": [2.0, 2.5, 3.25]}]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({}, "'input' is None"),
        ({"input": [1, 2, 3]}, "'input' is [1, 2, 3]"),
        ({"input": {"x": [[1, 2], [3]]}}, "The input 'x' is no array"),
        ({"input": {"y": [[1, 2, 3]]}}, "Add: x"),
        ({"input": {"x": [[1, 2]]}}, "the model takes"),
        ({"input": {"x": [[1, 2, 3]]}, "top_k": 1}, "'top_k' is not a field"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(start, body: dict, problem: str) -> None:
    refused = start({"halving": TensorToTensor(Halving())}).post("/v1/tensors", body)
    assert refused.status_code == 400
    assert problem in refused.json()["error"]["message"]
