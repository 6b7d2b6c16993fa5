"""Calls of functions: how they are written, and how they are read."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_runtime.errors import UsageError
from fastserve_runtime.generation.grammar import Grammar, GrammarCompiler
from fastserve_runtime.generation.tools import (
    HERMES,
    LLAMA,
    MISTRAL,
    CallReader,
    Tool,
    ToolUse,
    call_form,
    call_grammar,
    with_tools_in_text,
)

ADD = Tool(
    "add",
    {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
    {"type": "function", "function": {"name": "add"}},
)
SAY = Tool("say", {"type": "object", "properties": {"text": {"type": "string"}}}, {"type": "function"})
USE = ToolUse((ADD, SAY))
WRITTEN = {
    "hermes": (
        HERMES,
        (
            '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>\n'
            '<tool_call>\n{"name": "say", "arguments": {"text": "é {\\"x\\"}"}}\n</tool_call>'
        ),
    ),
    "mistral": (
        MISTRAL,
        (
            '[TOOL_CALLS][{"name": "add", "arguments": {"a": 1, "b": 2}}, '
            '{"name": "say", "arguments": {"text": "é {\\"x\\"}"}}]'
        ),
    ),
}
CALLS = [("add", {"a": 1, "b": 2}), ("say", {"text": 'é {"x"}'})]


def read(form, pieces):
    reader = CallReader(form)
    text = "".join(reader.push(piece) for piece in pieces)
    rest, calls = reader.finish()
    return text + rest, [(call.name, json.loads(call.arguments)) for call in calls]


@given(data=st.data())
@pytest.mark.parametrize("name", WRITTEN)
def test_calls_are_told_from_the_text_before_them_however_it_is_cut(name, data) -> None:
    form, calls = WRITTEN[name]
    before = data.draw(st.text(alphabet="ab<[{\n tol_c", max_size=12).filter(lambda t: form.marker not in t))
    answer = before + calls
    cuts = sorted(data.draw(st.sets(st.integers(0, len(answer)), max_size=6)) | {0, len(answer)})
    assert read(form, [answer[a:b] for a, b in pairwise(cuts)]) == (before, CALLS)


def test_a_bare_object_is_a_call_and_other_text_is_none() -> None:
    written = '{"name": "add", "parameters": {"a": 1, "b": 2}}'
    assert read(LLAMA, list(written)) == ("", CALLS[:1])
    assert read(LLAMA, ["It is ", '{"name": "add"}']) == ('It is {"name": "add"}', [])


@pytest.mark.parametrize("form", [HERMES, MISTRAL, LLAMA])
def test_text_without_calls_stays_whole(form) -> None:
    text = "1 < 2 and [3] <tool [TOOL"
    assert read(form, list(text)) == (text, [])


def test_a_call_that_is_cut_off_is_text() -> None:
    answer = '<tool_call>\n{"name": "add", "argum'
    assert read(HERMES, [answer]) == (answer, [])
    assert read(LLAMA, ['{"a": 1}']) == ('{"a": 1}', [])


def test_ids_are_what_every_template_takes() -> None:
    reader = CallReader(HERMES)
    reader.push(WRITTEN["hermes"][1])
    ids = [call.id for call in reader.finish()[1]]
    assert len(set(ids)) == 2
    # Mistral's template refuses others.
    assert all(len(i) == 9 and i.isalnum() and i.isascii() for i in ids)


def is_sentence(tokenizer, source: str, text: str, *, is_whole: bool = True) -> bool:
    constraint = GrammarCompiler(tokenizer.to_str(), ()).constraint(Grammar(source))
    matcher = constraint._matcher
    tokens = tokenizer.encode(text).ids
    return matcher.validate_tokens(tokens) == len(tokens) and matcher.consume_tokens(tokens) and matcher.is_accepting()


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("mode", ["auto", "required"])
def test_the_grammar_takes_calls_and_only_valid_ones(byte_tokenizer, name, mode) -> None:
    form, calls = WRITTEN[name]
    source = call_grammar(ToolUse((ADD, SAY), mode), form, None)
    assert is_sentence(byte_tokenizer, source, calls)
    assert not is_sentence(byte_tokenizer, source, calls.replace('"b": 2', '"b": "2"'))
    assert not is_sentence(byte_tokenizer, source, calls.replace('"say"', '"shout"'))
    alone = call_grammar(ToolUse((ADD, SAY), mode, is_parallel=False), form, None)
    assert not is_sentence(byte_tokenizer, alone, calls)
    for text in ("Hello.", "1 < 2", "") if form.marker else ("Hello.",):
        assert is_sentence(byte_tokenizer, source, text) is (mode == "auto")
    assert is_sentence(byte_tokenizer, source, f"Well: {calls}") is (mode == "auto")


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_a_bare_object_follows_its_schema(byte_tokenizer, mode) -> None:
    source = call_grammar(ToolUse((ADD,), mode), LLAMA, None)
    assert is_sentence(byte_tokenizer, source, '{"name": "add", "parameters": {"a": 1, "b": 2}}')
    assert not is_sentence(byte_tokenizer, source, '{"name": "add", "parameters": {"a": 1}}')
    assert is_sentence(byte_tokenizer, source, "It is {3}.") is (mode == "auto")


def test_a_marker_that_is_a_token_comes_as_that_token(byte_tokenizer) -> None:
    from tokenizers import AddedToken, Tokenizer

    tokenizer = Tokenizer.from_str(byte_tokenizer.to_str())
    tokenizer.add_tokens([AddedToken("<tool_call>", special=False)])
    marker = tokenizer.token_to_id("<tool_call>")
    for mode in ("auto", "required"):
        source = call_grammar(ToolUse((ADD,), mode), HERMES, marker)
        call = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
        assert is_sentence(tokenizer, source, call)
        assert is_sentence(tokenizer, source, f"{call}\n{call}")


def test_templates_tell_their_form() -> None:
    assert call_form("{{ messages }}") is None
    assert call_form("{% if tools %}<tool_call>{% endif %}") is HERMES
    assert call_form("{% if tools %}[TOOL_CALLS]{% endif %}") is MISTRAL
    assert call_form("{% if tools %}<|python_tag|>{% endif %}") is LLAMA
    with pytest.raises(UsageError, match="does not know"):
        call_form("{% if tools %}<function=f>{% endif %}")


def test_a_template_without_a_place_for_tools_gets_them_as_text() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 2}}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1 + 2?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "3", "tool_call_id": "a"},
    ]
    system, user, called, result = with_tools_in_text(messages, USE)
    assert system["content"].startswith("Be brief.\n\n")
    assert '{"type": "function", "function": {"name": "add"}}' in system["content"]
    assert user == messages[1]
    assert read(HERMES, [called["content"]]) == ("", CALLS[:1])
    assert result == {"role": "user", "content": "<tool_response>\n3\n</tool_response>"}
    assert with_tools_in_text(messages[1:2], USE)[0]["role"] == "system"
    assert with_tools_in_text(messages, None)[0] == messages[0]
