"""What an answer must look like: the fields `response_format` and `tools` of OpenAI's API, checked and typed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, get_args

from fastserve_runtime.generation.grammar import Grammar
from fastserve_runtime.generation.tools import Mode, Tool, ToolUse
from fastserve_runtime.serving.refusal import Refusal
from fastserve_runtime.serving.request_fields import RequestFields, message_text, wrong

MAX_TOOLS = 128
_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_NO_ARGUMENTS: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
"""Of a function without parameters, as OpenAI has it."""


def response_grammar(value: Any) -> Grammar | None:
    """Return the grammar of a `response_format`; None where any text will do.

    Raises:
        Refusal: it is of no known form.
    """
    if value is None:
        return None
    kind = value.get("type") if isinstance(value, dict) else value
    if kind == "text":
        return None
    if kind not in ("json_object", "json_schema"):
        raise wrong("response_format.type", kind, "'text', 'json_object' or 'json_schema'")
    beside = value.get("schema")  # as llama.cpp's and other servers have it, with both types
    if beside is not None:
        if not isinstance(beside, dict):
            raise wrong("response_format.schema", beside, "a JSON schema")
        return Grammar.of_json_schema(beside)
    if kind == "json_object":
        return Grammar.of_json_object()
    described = value.get("json_schema")
    if not isinstance(described, dict) or not isinstance(described.get("schema"), dict):
        raise wrong("response_format.json_schema", described, "an object with a JSON schema in 'schema'")
    return Grammar.of_json_schema(described["schema"])


def tool_use(fields: RequestFields) -> ToolUse | None:
    """Return the functions that an answer may call, by `tools`, `tool_choice` and `parallel_tool_calls`.

    Raises:
        Refusal: one of the fields is wrong, or names a function that is not there.
    """
    tools = _tools(fields.value("tools"))
    choice = fields.value("tool_choice")
    is_parallel = fields.value("parallel_tool_calls") is None or fields.flag("parallel_tool_calls")
    if choice == "none":
        return None
    if choice in (None, "auto"):
        return ToolUse(tools, "auto", is_parallel) if tools else None
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        return _allowed(tools, choice.get("allowed_tools"), is_parallel=is_parallel)
    if not tools:
        raise Refusal(400, "tool_choice asks for a call, and there are no tools. Give some.", parameter="tool_choice")
    if choice == "required":
        return ToolUse(tools, "required", is_parallel)
    function = choice.get("function") if isinstance(choice, dict) and choice.get("type") == "function" else None
    if not isinstance(function, dict):
        raise wrong("tool_choice", choice, "'none', 'auto', 'required', or a function by its name")
    named = _named(tools, function.get("name"), "tool_choice.function.name")
    return ToolUse((named,), "required", is_parallel)


def _allowed(tools: tuple[Tool, ...], value: Any, *, is_parallel: bool) -> ToolUse:
    """Read `allowed_tools` of a `tool_choice`: some of the functions, and whether one must be called."""
    place = "tool_choice.allowed_tools"
    if not isinstance(value, dict) or value.get("mode") not in get_args(Mode):
        raise wrong(place, value, f"an object with a mode, one of {', '.join(get_args(Mode))}, and tools")
    listed = value.get("tools")
    if not isinstance(listed, list) or not listed:
        raise wrong(f"{place}.tools", listed, "a list of at least one function")
    functions = [entry.get("function") if isinstance(entry, dict) else entry for entry in listed]
    found = [
        _named(tools, f.get("name") if isinstance(f, dict) else f, f"{place}.tools[{number}].function.name")
        for number, f in enumerate(functions)
    ]
    return ToolUse(tuple({tool.name: tool for tool in found}.values()), value["mode"], is_parallel)


def _named(tools: tuple[Tool, ...], name: Any, place: str) -> Tool:
    for tool in tools:
        if tool.name == name:
            return tool
    raise wrong(place, name, f"one of {', '.join(tool.name for tool in tools) or 'the tools, of which there are none'}")


def _tools(value: Any) -> tuple[Tool, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > MAX_TOOLS:
        raise wrong("tools", value, f"a list of at most {MAX_TOOLS} functions")
    tools = tuple(_tool(tool, f"tools[{number}]") for number, tool in enumerate(value))
    names = [tool.name for tool in tools]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise Refusal(400, f"tools has two functions of the name '{twice}'. Rename one.", parameter="tools")
    return tools


def _tool(value: Any, place: str) -> Tool:
    kind = value.get("type") if isinstance(value, dict) else value
    if kind != "function":
        raise wrong(f"{place}.type" if isinstance(value, dict) else place, kind, "a tool of type 'function'")
    function = value.get("function")
    if not isinstance(function, dict):
        raise wrong(f"{place}.function", function, "an object with the function's name and parameters")
    name = function.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise wrong(f"{place}.function.name", name, "1 to 64 letters, digits, dots, dashes and underscores")
    parameters = function.get("parameters")
    if parameters is None:
        parameters = _NO_ARGUMENTS
    if not isinstance(parameters, dict) or parameters.get("type", "object") != "object":
        raise wrong(f"{place}.function.parameters", parameters, "the JSON schema of an object")
    return Tool(name, {**parameters, "type": "object"}, value)


def called_tools(value: Any, place: str) -> list[dict[str, Any]]:
    """Return the calls of an earlier answer as chat templates take them: arguments as objects instead of JSON text.

    Raises:
        Refusal: they are of no known form.
    """
    if not isinstance(value, list):
        raise wrong(place, value, "a list of calls")
    return [_called(call, f"{place}[{number}]") for number, call in enumerate(value)]


def _called(call: Any, place: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise wrong(place, call, "a call of a function by its name")
    arguments = function.get("arguments")
    try:
        arguments = json.loads(arguments or "{}") if isinstance(arguments, str) or arguments is None else arguments
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise wrong(f"{place}.function.arguments", function.get("arguments"), "a JSON object as text")
    identifier = call.get("id")
    found = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    return found if identifier is None else {"id": message_text(identifier, f"{place}.id"), **found}
