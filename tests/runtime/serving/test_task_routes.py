"""Routes that tasks bring themselves: answers to questions over HTTP."""

from __future__ import annotations

import numpy as np
import pytest

from fastserve_runtime.pipelines.question_answering import QuestionAnswering
from fastserve_runtime.preprocessors.context_windows import ContextSettings
from fastserve_runtime.preprocessors.text_pairs import TextPairPreprocessor, TextPairSettings
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
