"""Every request is read or refused with the name of what is wrong; nothing else can happen."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_runtime.generation.chat_template import ROLES
from fastserve_runtime.generation.prompt_tokenizer import TemplateOptions
from fastserve_runtime.generation.sampling import Sampling
from fastserve_runtime.serving.openai_requests import (
    EmbeddingRequest,
    GenerationRequest,
    chat_request,
    completion_request,
    embedding_request,
)
from fastserve_runtime.serving.refusal import Refusal

CHAT = {"messages": [{"role": "user", "content": "Hi"}]}
COMPLETION = {"prompt": "Once"}
EMBEDDING = {"input": "a"}
READERS = {"chat": (chat_request, CHAT), "completion": (completion_request, COMPLETION)}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = """
model messages prompt input stream stream_options max_tokens max_completion_tokens temperature top_p
top_k stop seed n frequency_penalty presence_penalty repetition_penalty logprobs top_logprobs
logit_bias tools tool_choice functions function_call response_format modalities audio best_of echo
suffix encoding_format dimensions user chat_template_kwargs continue_final_message
add_generation_prompt parallel_tool_calls prefix
""".split()  # noqa: SIM905 -- a list of literals would fill a page


def read_or_refused(read, document):
    try:
        return read(document)
    except Refusal as refusal:
        return refusal


@given(st.dictionaries(st.sampled_from(FIELDS), JSON), st.sampled_from([CHAT, COMPLETION, EMBEDDING]))
def test_any_json_object_is_read_or_refused(document, sound) -> None:
    for read in (chat_request, completion_request, embedding_request):
        for given_fields in (document, {**document, **sound}):
            outcome = read_or_refused(read, given_fields)
            if not isinstance(outcome, Refusal):
                assert isinstance(outcome, (GenerationRequest, EmbeddingRequest))
                continue
            assert outcome.status == 400
            assert len(outcome.message) < 300
            json.dumps(outcome.as_document())
            field = outcome.parameter.partition("[")[0].partition(".")[0]
            assert field in {*FIELDS, "include_usage"}


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "temperature": st.floats(0, 2) | st.integers(0, 2),
            "top_p": st.floats(0, 1),
            "min_p": st.floats(0, 1),
            "typical_p": st.floats(0, 1, exclude_min=True),
            "top_k": st.integers(0, 1000),
            "repetition_penalty": st.floats(0.01, 10),
            "seed": st.integers(-(2**63), 2**63 - 1),
        },
    )
)
def test_what_is_in_range_is_taken_by_the_sampler(document) -> None:
    options = dict(chat_request({**CHAT, **document}).options)
    assert options.pop("template") == TemplateOptions()
    assert (options.pop("max_new_tokens"), options.pop("stop")) == (2**31 - 1, ())
    assert set(options) == set(document)
    sampling = Sampling(**options)
    for name in set(document) - {"seed"}:
        assert getattr(sampling, name) == document[name]
    if "seed" in document:
        assert (sampling.seed - document["seed"]) % 2**64 == 0


PARTS = st.lists(st.text(), min_size=1, max_size=3)
MESSAGE = st.tuples(st.sampled_from(ROLES), st.text() | PARTS)


@given(st.lists(MESSAGE, min_size=1, max_size=4))
def test_messages_become_roles_and_texts(messages) -> None:
    sent = [
        {"role": role, "content": c if isinstance(c, str) else [{"type": "text", "text": t} for t in c], "name": "x"}
        for role, c in messages
    ]
    prompt = chat_request({"messages": sent}).prompt
    assert [m["content"] for m in prompt] == [c if isinstance(c, str) else "\n".join(c) for _, c in messages]
    assert [m["role"] for m in prompt] == [{"developer": "system"}.get(role, role) for role, _ in messages]


@pytest.mark.parametrize(
    ("messages", "parameter"),
    [
        (None, "messages"),
        ("Hi", "messages"),
        ([], "messages"),
        (["Hi"], "messages[0]"),
        ([{"role": "user", "content": "a"}, {"role": "wizard", "content": "b"}], "messages[1].role"),
        ([{"role": ["user"], "content": "a"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": []}], "messages[0].content"),
        ([{"role": "user", "content": ["a"]}], "messages[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].type"),
        (
            [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}],
            "messages[0].content[1].type",
        ),
        ([{"role": "user", "content": None}], "messages[0].content"),
        ([{"role": "assistant", "content": "", "function_call": {"name": "f"}}], "messages[0]"),
        ([{"role": "assistant", "content": "", "tool_calls": [{}]}], "messages[0].tool_calls[0]"),
        ([{"role": "assistant", "content": "", "tool_calls": 3}], "messages[0].tool_calls"),
        ([{"role": "tool", "content": "5", "tool_call_id": 3}], "messages[0].tool_call_id"),
    ],
)
def test_the_place_of_what_is_wrong_in_messages_is_named(messages, parameter) -> None:
    with pytest.raises(Refusal) as refused:
        chat_request({"messages": messages})
    assert refused.value.parameter == parameter


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        ("chat", {"n": 2}, "n is 2,"),
        ("chat", {"n": True}, "n is true,"),
        ("chat", {"frequency_penalty": 0.5}, "frequency_penalty is 0.5,"),
        ("chat", {"presence_penalty": -1}, "presence_penalty is -1,"),
        ("chat", {"logit_bias": {"5": 1}}, 'logit_bias is {"5": 1}, which'),
        (
            "chat",
            {"logprobs": True},
            "logprobs is true, which this server does not support. Leave it out, or give false.",
        ),
        ("chat", {"top_logprobs": 3}, "top_logprobs is 3,"),
        ("chat", {"functions": [{"name": "f"}]}, "or give []."),
        ("chat", {"modalities": ["text", "audio"]}, "modalities"),
        ("completion", {"logprobs": 0}, "logprobs is 0, which this server does not support. Leave it out."),
        ("completion", {"best_of": 2}, "best_of is 2,"),
        ("completion", {"echo": True}, "echo is true,"),
        ("completion", {"suffix": "end"}, "suffix is 'end',"),
        ("completion", {"add_special_tokens": False}, "or give true."),
        ("chat", {"chat_template": "{{ messages }}"}, "chat_template is '{{ messages }}',"),
        ("chat", {"min_tokens": 5}, "min_tokens is 5, which this server does not support. Leave it out, or give 0."),
        ("chat", {"guided_json": {"type": "object"}}, "guided_json is"),
        ("completion", {"ignore_eos": True}, "ignore_eos is true,"),
        ("completion", {"repeat_penalty": 1.1}, "repeat_penalty is 1.1,"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(kind, fields, words) -> None:
    read, sound = READERS[kind]
    with pytest.raises(Refusal, match="does not support") as refused:
        read({**sound, **fields})
    assert words in refused.value.message
    assert refused.value.parameter == next(iter(fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1, "frequency_penalty": 0.0, "presence_penalty": 0, "logit_bias": {}},
        {"logprobs": False, "tools": [], "tool_choice": "auto", "response_format": {"type": "text"}},
        {"min_tokens": 0, "ignore_eos": False, "skip_special_tokens": True, "length_penalty": 1.0, "repeat_penalty": 1},
        {"modalities": ["text"], "stop": None, "seed": None, "stream": None, "user": 3, "unknown": object()},
    ],
)
def test_what_asks_for_nothing_is_taken(fields) -> None:
    assert chat_request({**CHAT, **fields}) == chat_request(CHAT)


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 2.1},
        {"temperature": -0.1},
        {"temperature": "hot"},
        {"temperature": True},
        {"temperature": float("inf")},
        {"top_p": -0.1},
        {"top_p": 1.5},
        {"top_k": -2},
        {"min_p": 1.5},
        {"typical_p": 0},
        {"repetition_penalty": 0},
        {"seed": 2**63},
        {"seed": 1.5},
        {"max_tokens": 0},
        {"max_tokens": "5"},
        {"stop": ["a"] * 5},
        {"stop": ""},
        {"stop": ["a", 3]},
        {"stop": {"a": 1}},
        {"stream": 1},
        {"model": 3},
        {"stream_options": {"include_usage": True}},
        {"stream_options": "usage", "stream": True},
    ],
)
def test_what_is_out_of_range_is_named(fields) -> None:
    for read, sound in READERS.values():
        with pytest.raises(Refusal) as refused:
            read({**sound, **fields})
        assert refused.value.parameter == next(iter(fields))


def test_all_tokens_may_be_asked_for_as_other_servers_do() -> None:
    assert chat_request({**CHAT, "top_k": -1}).options["top_k"] == 0


@pytest.mark.parametrize(("value", "bound"), [(2**63, 2**63 - 1), (-(2**63) - 1, -(2**63))])
def test_a_number_beyond_a_bound_is_told_both(value, bound) -> None:
    with pytest.raises(Refusal, match=f"from -9223372036854775808 to {2**63 - 1}") as refused:
        chat_request({**CHAT, "seed": value})
    assert str(bound) in refused.value.message


def test_an_answer_that_was_refused_has_the_words_of_the_refusal() -> None:
    refusal = {"type": "refusal", "refusal": "No."}
    sent = [
        {"role": "assistant", "content": None, "refusal": "Never."},
        {"role": "assistant", "content": [{"type": "text", "text": "a"}, refusal]},
    ]
    assert [m["content"] for m in chat_request({"messages": sent}).prompt] == ["Never.", "a\nNo."]
    with pytest.raises(Refusal, match=r"messages\[0\].content\[0\].type is 'refusal'"):
        chat_request({"messages": [{"role": "user", "content": [refusal]}]})


@pytest.mark.parametrize("kind", ["json_object", "json_schema"])
def test_a_schema_may_stand_beside_the_type(kind) -> None:
    schema = {"type": "object", "properties": {"a": {"const": 1}}}
    usual = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    for read, sound in READERS.values():
        given_grammar, wanted = (
            read({**sound, "response_format": f}).options["grammar"] for f in ({"type": kind, "schema": schema}, usual)
        )
        assert given_grammar == wanted
    with pytest.raises(Refusal, match=r"response_format\.schema is 3"):
        chat_request({**CHAT, "response_format": {"type": kind, "schema": 3}})


def test_some_of_the_functions_may_be_allowed() -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("f", "g", "h")]

    def chosen(names, mode="auto"):
        listed = [{"type": "function", "function": {"name": name}} for name in names]
        choice = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": listed}}
        use = chat_request({**CHAT, "tools": tools, "tool_choice": choice}).options["tools"]
        return [tool.name for tool in use.tools], use.mode

    assert chosen(["h", "f", "h"]) == (["h", "f"], "auto")
    assert chosen(["g"], "required") == (["g"], "required")
    for names, mode, words in (
        (["x"], "auto", "one of f, g, h"),
        ([], "auto", "at least one"),
        (["f"], "all", "a mode"),
    ):
        with pytest.raises(Refusal, match=words):
            chosen(names, mode)


def test_an_answer_that_only_called_tools_has_no_text() -> None:
    call = {"id": "a1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    sent = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "5", "tool_call_id": "a1"},
        {"role": "assistant", "content": None},
    ]
    _, called, result, empty = chat_request({"messages": sent}).prompt
    assert called["content"] == ""
    # Templates write arguments themselves.
    assert called["tool_calls"] == [{"id": "a1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]
    assert result == {"role": "tool", "content": "5", "tool_call_id": "a1"}
    assert empty == {"role": "assistant", "content": ""}


def test_how_messages_are_rendered_may_be_said() -> None:
    assert chat_request(CHAT).options["template"] == TemplateOptions()
    fields = {"chat_template_kwargs": {"enable_thinking": False}, "continue_final_message": True}
    assert chat_request({**CHAT, **fields}).options["template"] == TemplateOptions(
        add_generation_prompt=False, continue_final_message=True, values={"enable_thinking": False}
    )
    for wrong in (
        {"chat_template_kwargs": 3},
        {"chat_template_kwargs": {"messages": []}},
        {"continue_final_message": 1},
        {"continue_final_message": True, "add_generation_prompt": True},
    ):
        with pytest.raises(Refusal):
            chat_request({**CHAT, **wrong})


def test_a_last_message_that_is_a_prefix_is_continued() -> None:
    begun = {"role": "assistant", "content": "We ", "prefix": True}
    messages = [*CHAT["messages"], begun]
    wanted = TemplateOptions(add_generation_prompt=False, continue_final_message=True)
    assert chat_request({"messages": messages}).options["template"] == wanted
    assert chat_request({"messages": [begun, *CHAT["messages"]]}).options["template"] == TemplateOptions()
    with pytest.raises(Refusal, match="prefix is 'yes'"):
        chat_request({"messages": [*CHAT["messages"], {**begun, "prefix": "yes"}]})


def test_the_number_of_tokens_is_that_of_the_request_or_of_openai() -> None:
    assert completion_request(COMPLETION).options["max_new_tokens"] == 16
    assert completion_request({**COMPLETION, "max_tokens": 3.0}).options["max_new_tokens"] == 3
    both = {"max_tokens": 9, "max_completion_tokens": 5}
    assert chat_request({**CHAT, **both}).options["max_new_tokens"] == 5


def test_stop_strings_are_one_or_several() -> None:
    assert chat_request({**CHAT, "stop": "a"}).options["stop"] == ("a",)
    assert chat_request({**CHAT, "stop": ["a", "b"]}).options["stop"] == ("a", "b")


def test_streams_and_their_usage_are_asked_for() -> None:
    request = chat_request({**CHAT, "stream": True, "stream_options": {"include_usage": True}})
    assert (request.stream, request.include_usage) == (True, True)
    request = chat_request({**CHAT, "stream": True, "stream_options": {}})
    assert (request.stream, request.include_usage) == (True, False)


@pytest.mark.parametrize("prompt", [None, 3, [], ["a", "b"], [3], [[1, 2]], [[1], [2]], {"a": 1}, [None]])
def test_a_prompt_is_one_string(prompt) -> None:
    with pytest.raises(Refusal) as refused:
        completion_request({"prompt": prompt})
    assert refused.value.parameter == "prompt"
    assert completion_request({"prompt": ["a"]}).prompt == "a"


@pytest.mark.parametrize("texts", [None, 3, [], "", [""], ["a", 3], ["a"] * 2049, {"a": 1}, [True]])
def test_texts_to_embed_are_strings(texts) -> None:
    with pytest.raises(Refusal) as refused:
        embedding_request({"input": texts})
    assert refused.value.parameter.startswith("input")


@pytest.mark.parametrize("tokens", [[1, 2], [[1, 2], [3]]])
def test_token_ids_are_refused_as_such(tokens) -> None:
    with pytest.raises(Refusal, match="token ids"):
        embedding_request({"input": tokens})


def test_embeddings_come_as_numbers_or_as_base64() -> None:
    assert embedding_request({**EMBEDDING, "model": "m"}) == EmbeddingRequest("m", ("a",), "float")
    assert embedding_request({**EMBEDDING, "encoding_format": "base64"}).encoding == "base64"
    with pytest.raises(Refusal, match="float, base64"):
        embedding_request({**EMBEDDING, "encoding_format": "int8"})
    with pytest.raises(Refusal, match="dimensions is 8,"):
        embedding_request({**EMBEDDING, "dimensions": 8})


@pytest.mark.parametrize("field", ["dimensions", "input_type", "normalize", "truncate_prompt_tokens"])
def test_what_would_change_embeddings_elsewhere_is_refused_by_name(field) -> None:
    with pytest.raises(Refusal, match=f"{field} is 5, which this server does not support"):
        embedding_request({**EMBEDDING, field: 5})
