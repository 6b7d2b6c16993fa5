"""Settings of prompts are read strictly, and texts and conversations become tokens."""

from __future__ import annotations

import numpy as np
import pytest

from fastserve_runtime.bundle.golden import Golden
from fastserve_runtime.errors import BundleError
from fastserve_runtime.generation.prepared_prompt import prepared
from fastserve_runtime.generation.prompt_tokenizer import PromptSettings, PromptTokenizer, TemplateOptions
from fastserve_runtime.generation.sampling import Sampling
from fastserve_runtime.generation.tools import Tool, ToolUse

DOCUMENT = {
    "context": 64,
    "beginning": 1,
    "ends": [2, 3],
    "special_tokens": {"bos_token": "<s>"},
    "chat_template": "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}",
    "sampling": {"temperature": 0.5, "top_k": 9},
}


def test_settings_are_read() -> None:
    settings = PromptSettings.from_document(DOCUMENT)
    assert settings.sampling == Sampling(temperature=0.5, top_k=9)
    assert (settings.context, settings.beginning, settings.ends) == (64, 1, (2, 3))
    minimum = PromptSettings.from_document({"context": 8, "ends": []})
    assert minimum == PromptSettings(8)


@pytest.mark.parametrize(
    "change",
    [
        {"context": None},
        {"context": -1},
        {"beginning": "1"},
        {"ends": 2},
        {"ends": ["2"]},
        {"special_tokens": ["<s>"]},
        {"chat_template": 5},
        {"tool_template": ["a"]},
        {"sampling": {"heat": 1}},
        {"sampling": {"temperature": -1}},
        {"sampling": 3},
    ],
)
def test_damaged_settings_are_refused(change) -> None:
    with pytest.raises(BundleError):
        PromptSettings.from_document(DOCUMENT | change)


def test_a_template_for_tools_counts_where_tools_are_offered(byte_tokenizer) -> None:
    document = DOCUMENT | {"tool_template": "{{ tools[0].function.name }}<tool_call>{{ messages[0].content }}"}
    tokenizer = PromptTokenizer(byte_tokenizer.to_str().encode(), PromptSettings.from_document(document))
    messages = [{"role": "user", "content": "Hi"}]
    offered = ToolUse((Tool("now", {"type": "object"}, {"type": "function", "function": {"name": "now"}}),))

    def prompt(tools):
        return tokenizer.tokenizer.decode(prepared(tokenizer, messages, TemplateOptions(), None, tools).tokens)

    assert prompt(None) == "<s>Hi"
    assert prompt(offered) == "now<tool_call>Hi"


def test_bytes_that_are_no_unicode_are_question_marks_as_for_encoders(byte_tokenizer) -> None:
    tokenizer = PromptTokenizer(byte_tokenizer.to_str().encode(), PromptSettings.from_document(DOCUMENT))
    given = b"a\xff".decode(errors="surrogateescape")
    assert tokenizer.encode(given) == tokenizer.encode("a?")
    assert tokenizer.encode([{"role": "user", "content": given}]) == tokenizer.encode("<s>a?")


def test_a_text_and_a_conversation_become_tokens(byte_tokenizer) -> None:
    byte_tokenizer.enable_padding(length=40)  # as a file may have been saved
    try:
        content = byte_tokenizer.to_str().encode()
    finally:
        byte_tokenizer.no_padding()
    tokenizer = PromptTokenizer(content, PromptSettings.from_document(DOCUMENT))
    assert tokenizer.tokenizer.decode(tokenizer.encode("Grüße 🌍")) == "Grüße 🌍"
    conversation = tokenizer.encode([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}])
    assert tokenizer.tokenizer.decode(conversation) == "<s>HiHo"


def test_a_damaged_tokenizer_or_template_is_refused(byte_tokenizer) -> None:
    with pytest.raises(BundleError, match="tokenizer file is damaged"):
        PromptTokenizer(b"{}", PromptSettings(8))
    with pytest.raises(BundleError):
        PromptTokenizer(byte_tokenizer.to_str().encode(), PromptSettings(8, chat_template="{% for %}"))


def test_traces_whose_prompts_come_out_otherwise_now_are_found(byte_tokenizer) -> None:
    tokenizer = PromptTokenizer(byte_tokenizer.to_str().encode(), PromptSettings(8, beginning=9))
    texts = ["Hi", "", "Ho!"]
    prompts = [tokenizer.encode("Hi"), [9], tokenizer.encode("Ho!")]
    tokens = np.zeros((3, 6), np.int32)
    for row, prompt in zip(tokens, prompts, strict=True):
        row[: len(prompt)] = prompt
        row[len(prompt) :] = 77  # what was generated is not compared
    inputs = {"tokens": tokens, "prompt": np.array([len(p) for p in prompts], np.int32)}

    def differing(texts: list[str], tokenizer: PromptTokenizer = tokenizer) -> list[str]:
        known = np.array(["short"] * 3), np.ones(3, bool)
        return tokenizer.differing(Golden(np.array(texts), *known, inputs=inputs, reference={}, artifact={}))

    assert differing(texts) == []
    assert differing(["Hi", "", "Hu!"]) == ["tokens"]
    assert differing(["Hi!", "", "Ho!"]) == ["tokens"]
    without = PromptTokenizer(byte_tokenizer.to_str().encode(), PromptSettings(8))
    assert differing(texts, without) == ["tokens"]
