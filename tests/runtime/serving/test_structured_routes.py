"""Answers that must have a form, through OpenAI's client, from a real engine with weights of chance."""

from __future__ import annotations

import json

import openai
import pytest

from fastserve_runtime.generation.prompt_tokenizer import PromptSettings, PromptTokenizer
from fastserve_runtime.loading import open_model
from fastserve_runtime.pipelines.text_generation import open_pipeline
from random_decoders import CONFIGS, random_decoder

MESSAGES = [{"role": "user", "content": "Hi"}]
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["n"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
OTHER = {"type": "function", "function": {"name": "g"}}
HERMES = (
    "{% for t in tools or [] %}{{ t.function.name }}{% endfor %}{% for m in messages %}<{{ m.role[0] }}>{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function.arguments.n }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}<a>{% if quiet %}{{ quiet }}{% endif %}{% endif %}"
)


@pytest.fixture(scope="module")
def hermes(byte_tokenizer, tmp_path_factory):
    import onnx_ir as ir

    from fastserve_converters.formats.onnx.decoder_graph import write_graph
    from fastserve_converters.models.decoder.reading import read_decoder

    decoder_file = tmp_path_factory.mktemp("long") / "model.onnx"
    config = CONFIGS["llama"]()
    config.max_position_embeddings = 256
    ir.save(write_graph(read_decoder(random_decoder(config), 256)), decoder_file)
    tokenizer = PromptTokenizer(byte_tokenizer.to_str().encode(), PromptSettings(256, chat_template=HERMES))
    with open_pipeline(open_model(decoder_file), tokenizer, {}) as pipeline:
        yield pipeline


@pytest.fixture
def server(start, hermes):
    return start({"hermes": hermes})


@pytest.fixture
def chat(server):
    with server.client() as client:
        yield lambda **fields: client.chat.completions.create(
            **{"model": "hermes", "messages": MESSAGES, "temperature": 1, "seed": 1, **fields}
        )


def test_an_answer_follows_a_schema(chat) -> None:
    response_format = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}
    for seed in range(5):
        answer = chat(response_format=response_format, seed=seed).choices[0]
        assert answer.finish_reason == "stop"
        assert 0 <= json.loads(answer.message.content)["n"] <= 9
    chunks = list(chat(response_format=response_format, seed=0, stream=True))
    streamed = "".join(c.choices[0].delta.content or "" for c in chunks)
    assert streamed == chat(response_format=response_format, seed=0).choices[0].message.content


def test_an_answer_is_any_json_object(chat) -> None:
    content = chat(response_format={"type": "json_object"}, max_tokens=12).choices[0].message.content
    assert content.lstrip().startswith("{")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "f"}}])
def test_an_answer_calls_a_function_where_it_must(chat, choice) -> None:
    fields = {"tools": [TOOL] if choice == "required" else [OTHER, TOOL], "tool_choice": choice}
    fields["parallel_tool_calls"] = False
    answer = chat(**fields).choices[0]
    assert (answer.finish_reason, answer.message.content) == ("tool_calls", None)
    (call,) = answer.message.tool_calls
    assert (call.type, call.function.name) == ("function", "f")
    assert 0 <= json.loads(call.function.arguments)["n"] <= 9
    *_, with_calls, last = chat(**fields, stream=True)
    (delta,) = with_calls.choices[0].delta.tool_calls
    assert (delta.index, delta.function.name, delta.function.arguments) == (0, "f", call.function.arguments)
    assert last.choices[0].finish_reason == "tool_calls"


def test_a_call_and_its_result_go_on_in_the_conversation(chat, hermes) -> None:
    call = {"id": "abc", "type": "function", "function": {"name": "f", "arguments": '{"n": 7}'}}
    messages = [
        *MESSAGES,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "abc", "content": "49"},
    ]
    answer = chat(messages=messages, tools=[TOOL], tool_choice="none", max_tokens=2)
    assert answer.usage.prompt_tokens == len("<u>Hi<a><tool_call>7<t>49<a>")


def test_a_function_without_parameters_is_called_without_arguments(chat) -> None:
    for seed in range(3):
        answer = chat(tools=[OTHER], tool_choice="required", parallel_tool_calls=False, seed=seed)
        (call,) = answer.choices[0].message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == ("g", {})


def test_functions_that_may_be_called_stand_in_the_prompt(chat) -> None:
    answer = chat(tools=[TOOL, OTHER], max_tokens=2)
    assert answer.usage.prompt_tokens == len("fg<u>Hi<a>")
    assert chat(tools=[TOOL], tool_choice="none", max_tokens=2).usage.prompt_tokens == len("<u>Hi<a>")


def test_a_template_without_tools_gets_them_as_text(real) -> None:
    answer = real.post("/v1/chat/completions", {"messages": MESSAGES, "tools": [TOOL], "model": "tiny"})
    # The instruction alone is longer than this model's context.
    assert answer.json()["error"]["code"] == "context_length_exceeded"


def test_templates_take_values_and_answers_that_are_begun(chat) -> None:
    def prompt(**extra) -> int:
        return int(chat(max_tokens=1, extra_body=extra, messages=messages).usage.prompt_tokens)

    messages = MESSAGES
    assert prompt(chat_template_kwargs={"quiet": "hush"}) == prompt() + 4
    messages = [*MESSAGES, {"role": "assistant", "content": "We "}]
    assert prompt(continue_final_message=True, add_generation_prompt=False) == len("<u>Hi<a>We ")
    assert prompt(continue_final_message=True) == len("<u>Hi<a>We ")
    assert prompt(add_generation_prompt=False) == len("<u>Hi<a>We ")
    assert prompt() == len("<u>Hi<a>We <a>")


@pytest.mark.parametrize(
    ("fields", "words", "parameter"),
    [
        ({"response_format": {"type": "xml"}}, "'xml'. Give 'text', 'json_object' or", "response_format.type"),
        ({"response_format": "json"}, "'json'", "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "is null", "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}},
            'cannot be enforced: Unimplemented keys: ["not"]. Change it.',
            "response_format",
        ),
        ({"tools": [{"type": "function"}]}, "null", "tools[0].function"),
        ({"tools": [{"type": "code_interpreter"}]}, "'code_interpreter'", "tools[0].type"),
        ({"tools": ["f"]}, "'f'", "tools[0]"),
        ({"tools": [TOOL, TOOL]}, "two functions of the name 'f'", "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "'a b'", "tools[0].function.name"),
        ({"tool_choice": "required"}, "there are no tools", "tool_choice"),
        ({"tools": [TOOL], "tool_choice": "f"}, "'f'", "tool_choice"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "h"}}},
            "'h'. Give one of f.",
            "tool_choice.function.name",
        ),
        ({"tools": [TOOL], "response_format": {"type": "json_object"}}, "cannot be used together", "tools"),
        ({"chat_template_kwargs": {"messages": []}}, "'messages'", "chat_template_kwargs"),
    ],
)
def test_what_cannot_be_is_refused_in_whole_sentences(server, fields, words, parameter) -> None:
    answer = server.post("/v1/chat/completions", {"messages": MESSAGES, **fields})
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert words in error["message"]
    assert error["message"].endswith(".")
    assert error["param"] == parameter


@pytest.mark.parametrize("route", ["/v1/models", "/v1/models/hermes"])
def test_routes_of_models_may_end_with_a_slash(server, route) -> None:
    import httpx

    assert server.client().models.list().data[0].id == "hermes"
    plain, with_slash = (httpx.get(server.url + r) for r in (route, f"{route}/"))
    assert (plain.status_code, plain.json()) == (200, with_slash.json())


def test_the_client_library_is_told_what_is_wrong(chat) -> None:
    with pytest.raises(openai.BadRequestError, match="there are no tools"):
        chat(tool_choice="required")
