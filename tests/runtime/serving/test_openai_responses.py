from __future__ import annotations

import json

import pytest

from fastserve_runtime.generation.finish import FINISH_REASONS, Generation
from fastserve_runtime.serving.openai_responses import GenerationAnswer, event


def generation(reason):
    return Generation("some text", (1, 2, 3), reason, 4, 0.1, 0.2)


@pytest.mark.parametrize("kind", ["chat", "completion"])
@pytest.mark.parametrize("reason", FINISH_REASONS)
def test_every_reason_has_one_of_openais(kind, reason) -> None:
    wanted = "stop" if reason == "stop" else "length"
    answer = GenerationAnswer(kind, "m")
    assert answer.whole(generation(reason))["choices"][0]["finish_reason"] == wanted
    assert [d["choices"][0]["finish_reason"] for d in answer.end(generation(reason))] == [wanted]


def test_an_event_is_one_line_whatever_the_text_is() -> None:
    text = 'line\nline\r\n\u2028 data: 😀 \\ "'
    document = GenerationAnswer("completion", "m").piece(text)
    sent = event(document)
    assert sent.startswith("data: ")
    assert sent.endswith("\n\n")
    assert "\n" not in sent[:-2]
    assert "\r" not in sent
    assert json.loads(sent.removeprefix("data: "))["choices"][0]["text"] == text


def test_all_documents_of_an_answer_name_it_alike() -> None:
    answer = GenerationAnswer("chat", "m", include_usage=True)
    documents = [*answer.beginning(), answer.piece("a"), *answer.end(generation("stop"))]
    assert len({(d["id"], d["created"], d["model"], d["object"]) for d in documents}) == 1
    assert documents[-1]["usage"] == {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7}
    assert GenerationAnswer("chat", "m").id != answer.id
