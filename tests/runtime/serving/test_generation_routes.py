"""Texts through OpenAI's client, from a real engine."""

from __future__ import annotations

import json

import openai
import pytest

from fastserve_runtime.generation.prompt_tokenizer import PromptSettings, PromptTokenizer
from fastserve_runtime.loading import open_model
from fastserve_runtime.pipelines.text_generation import open_pipeline

MESSAGES = [{"role": "user", "content": "Hi"}]


def test_an_answer_in_a_chat_is_the_pipelines(client, text_pipeline) -> None:
    wanted = text_pipeline.generate(MESSAGES, max_new_tokens=9)
    answer = client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=9)
    assert (answer.object, answer.model) == ("chat.completion", "tiny")
    assert answer.id.startswith("chatcmpl-")
    choice = answer.choices[0]
    assert (choice.message.role, choice.message.content) == ("assistant", wanted.text)
    assert choice.finish_reason == "length"
    assert answer.usage.model_dump(exclude_none=True) == {
        "prompt_tokens": wanted.prompt_tokens,
        "completion_tokens": 9,
        "total_tokens": wanted.prompt_tokens + 9,
    }


def test_an_answer_may_fill_the_context(client, text_pipeline) -> None:
    answer = client.chat.completions.create(model="tiny", messages=MESSAGES)
    assert answer.usage.total_tokens >= 64
    assert answer.choices[0].finish_reason == "length"


def test_a_completion_is_the_pipelines(client, text_pipeline) -> None:
    wanted = text_pipeline.generate("Once upon", max_new_tokens=12)
    answer = client.completions.create(model="tiny", prompt="Once upon", max_tokens=12)
    assert (answer.object, answer.choices[0].text, answer.choices[0].finish_reason) == (
        "text_completion",
        wanted.text,
        "length",
    )
    assert client.completions.create(model="tiny", prompt=["Once upon"]).usage.completion_tokens == 16


def test_a_streamed_answer_is_the_whole_one(client, text_pipeline) -> None:
    wanted = text_pipeline.generate(MESSAGES, max_new_tokens=20)
    chunks = list(client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=20, stream=True))
    assert len(chunks) > 4
    assert {(chunk.object, chunk.id, chunk.usage) for chunk in chunks} == {
        ("chat.completion.chunk", chunks[0].id, None)
    }
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == wanted.text
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["length"]


def test_a_streamed_completion_is_the_whole_one(client, text_pipeline) -> None:
    wanted = text_pipeline.generate("Once upon", max_new_tokens=20).text
    chunks = list(client.completions.create(model="tiny", prompt="Once upon", max_tokens=20, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == wanted
    assert chunks[-1].choices[0].finish_reason == "length"


def test_a_stream_may_end_with_its_usage(client, text_pipeline) -> None:
    options = {"max_tokens": 5, "stream": True, "stream_options": {"include_usage": True}}
    chunks = list(client.chat.completions.create(model="tiny", messages=MESSAGES, **options))
    assert all("usage" in chunk.model_fields_set and chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-1].choices == []
    prompt = text_pipeline.generate(MESSAGES, max_new_tokens=1).prompt_tokens
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (prompt, 5)


def test_a_stream_is_of_server_sent_events(real) -> None:
    answer = real.post("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 2, "stream": True})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    events = answer.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(json.loads(event.removeprefix("data: "))["model"] == "tiny" for event in events[:-2])


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_across_tokens_ends_the_text_before_it(real, text_pipeline, stream) -> None:
    whole = text_pipeline.generate("Once upon", max_new_tokens=30).text
    stop = whole[8:11]  # a token is a byte here
    request = {"prompt": "Once upon", "max_tokens": 30, "stop": ["never comes", stop], "stream": stream}
    answer = real.post("/v1/completions", request)
    if stream:
        events = [json.loads(e.removeprefix("data: ")) for e in answer.text.split("\n\n")[:-2]]
        text = "".join(e["choices"][0]["text"] for e in events)
        reason = events[-1]["choices"][0]["finish_reason"]
    else:
        choice = answer.json()["choices"][0]
        text, reason = choice["text"], choice["finish_reason"]
    assert (text, reason) == (whole[: whole.index(stop)], "stop")


def test_a_seed_gives_the_same_text_again(client) -> None:
    options = {"model": "tiny", "prompt": "Once upon", "temperature": 2, "top_p": 0.999, "max_tokens": 24}
    extra = {"top_k": 100, "repetition_penalty": 3}
    texts = [
        client.completions.create(**options, seed=seed, extra_body=extra).choices[0].text for seed in (-7, -7, 5, 6, 9)
    ]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 1


@pytest.mark.parametrize("text", ["😀👩‍👩‍👧", "שלום עולם", "e\u0301 \u0000 ﷽"])
def test_any_unicode_goes_through(client, text_pipeline, text) -> None:
    wanted = text_pipeline.generate([{"role": "user", "content": text}], max_new_tokens=3)
    answer = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": [{"type": "text", "text": text}]}], max_tokens=3
    )
    assert answer.choices[0].message.content == wanted.text
    assert answer.usage.prompt_tokens == wanted.prompt_tokens


def test_a_prompt_that_is_too_long_is_told_by_openais_code(client) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as refused:
            client.completions.create(model="tiny", prompt="x" * 64, stream=stream)
        assert refused.value.code == "context_length_exceeded"
        assert "64" in refused.value.message
        assert "overflow" not in refused.value.message


def test_what_the_pipeline_refuses_is_a_bad_request(client, start, decoder_file, byte_tokenizer) -> None:
    with pytest.raises(openai.BadRequestError, match="prompt is empty"):
        client.completions.create(model="tiny", prompt="")
    tokenizer = PromptTokenizer(byte_tokenizer.to_str().encode(), PromptSettings(64))
    with open_pipeline(open_model(decoder_file), tokenizer, {}) as pipeline:
        running = start({"plain": pipeline})
        answer = running.post("/v1/chat/completions", {"messages": MESSAGES})
    assert (answer.status_code, "no chat template" in answer.text) == (400, True)
