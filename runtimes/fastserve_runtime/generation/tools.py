"""Functions that a model may call: what they are, how they are written in its answers, and how they are read there.

Models were trained on forms of their own, which their chat templates show: Hermes' and Qwen's `<tool_call>` tags
(https://github.com/NousResearch/Hermes-Function-Calling), Mistral's `[TOOL_CALLS]` list, Llama 3.1's bare object. A
template that has no place for functions gets them in a system message, in Hermes' form.
"""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fastserve_runtime.errors import UsageError
from fastserve_runtime.generation.grammar import json_rule
from fastserve_runtime.generation.stopping import overlap

Mode = Literal["auto", "required"]
_ID_LETTERS = string.ascii_letters + string.digits
_ID_LENGTH = 9
"""Mistral's templates refuse ids of another length."""


@dataclass(frozen=True)
class Tool:
    """A function that a model may call.

    Attributes:
        name: of the function.
        parameters: JSON schema of its arguments, an object's.
        document: the function as the request gave it, for the chat template.
    """

    name: str
    parameters: Mapping[str, Any]
    document: Mapping[str, Any]


@dataclass(frozen=True)
class ToolUse:
    """The functions of a request, and how they may be used.

    Attributes:
        tools: at least one.
        mode: `auto` leaves it to the model whether it calls any; `required` makes it call one.
        is_parallel: whether one answer may have several calls.
    """

    tools: tuple[Tool, ...]
    mode: Mode = "auto"
    is_parallel: bool = True

    def documents(self) -> list[dict[str, Any]]:
        """Return the functions as chat templates take them."""
        return [dict(tool.document) for tool in self.tools]


@dataclass(frozen=True)
class ToolCall:
    """A call that a model wants: its id, the function's name, and the arguments as JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class CallForm:
    """How calls stand in a model's answers.

    Attributes:
        marker: what begins a call, or the list of all calls; empty: calls begin with `{` where the answer begins.
        opening: what follows the marker once, before the first call.
        before_name: from there to the function's name.
        before_arguments: from the name to the arguments.
        behind_arguments: what closes a call.
        separator: between two calls; None where an answer has one call at most.
        closing: what follows the last call.
        arguments_key: the key of the arguments in a call's JSON object.
        repeats_marker: whether each call has the marker.
    """

    marker: str
    opening: str
    before_name: str
    before_arguments: str
    behind_arguments: str
    separator: str | None
    closing: str = ""
    arguments_key: str = "arguments"
    repeats_marker: bool = False


HERMES = CallForm(
    "<tool_call>",
    "",
    '\n{"name": "',
    '", "arguments": ',
    "}\n</tool_call>",
    "\n",
    repeats_marker=True,
)
MISTRAL = CallForm("[TOOL_CALLS]", "[", '{"name": "', '", "arguments": ', "}", ", ", "]")
LLAMA = CallForm("", "", '{"name": "', '", "parameters": ', "}", None, arguments_key="parameters")


def call_form(chat_template: str) -> CallForm | None:
    """Return how a model writes calls, by its chat template; None where the template has no place for functions.

    Raises:
        UsageError: the template shows functions in a form that is not known here.
    """
    if "tools" not in chat_template:
        return None
    if "<tool_call>" in chat_template and "<function=" not in chat_template:
        return HERMES
    if "[TOOL_CALLS]" in chat_template and "[ARGS]" not in chat_template:
        return MISTRAL
    if '"parameters":' in chat_template or "<|python_tag|>" in chat_template:
        return LLAMA
    raise UsageError(
        "The model's chat template shows tools in a form that this runtime does not know.", "Leave the tools out."
    )


def call_grammar(use: ToolUse, form: CallForm, marker_id: int | None) -> str:
    """Return the grammar (llguidance's Lark) of an answer that may, or must, call functions.

    Args:
        use: the functions, and how they may be used.
        form: how the model writes calls.
        marker_id: the token of the form's marker, where the vocabulary has it whole.
    """
    marker = f"<[{marker_id}]>" if marker_id is not None else _quoted(form.marker)
    first = f"{marker} " if form.marker else ""
    each = f"{marker} " if form.repeats_marker else ""
    calls = "call"
    if use.is_parallel and form.separator is not None:
        calls = f"call ({_quoted(form.separator)} {each}call)*"
    answer = " ".join(part for part in (first, _quoted(form.opening), calls, _quoted(form.closing)) if part)
    rules = []
    if use.mode == "required":
        rules.append(f"start: {answer}")
    elif not form.marker:
        rules += [f"start: {answer} | TEXT", r"TEXT: /([^{](.|\n)*)?/"]
    elif marker_id is not None:
        rules += [f"start: TEXT | TEXT {answer}", r"TEXT: /(.|\n)*/"]
    else:
        rest = answer.removeprefix(first)
        rules += [f"start: TEXT | begun {rest}", r"TEXT: /(.|\n)*/", f"begun[lazy]: TEXT {marker}"]
    rules.append("call: " + " | ".join(f"call_{number}" for number in range(len(use.tools))))
    for number, tool in enumerate(use.tools):
        head = form.before_name + json.dumps(tool.name)[1:-1] + form.before_arguments
        rules.append(f"call_{number}: {_quoted(head)} args_{number} {_quoted(form.behind_arguments)}")
        rules.append(f"args_{number}: {json_rule(tool.parameters)}")
    return "%llguidance {}\n" + "\n".join(rules) + "\n"


class CallReader:
    """Tells the text of an answer from its calls, while the answer comes piece by piece."""

    def __init__(self, form: CallForm) -> None:
        self._form = form
        self._held = ""
        self._is_call = False
        self._has_text = False

    def push(self, piece: str) -> str:
        """Take the next piece and return what is text for certain."""
        self._held += piece
        if self._is_call:
            return ""
        marker = self._form.marker or "{"
        if not self._form.marker and self._has_text:
            text, self._held = self._held, ""
            return text
        start = self._held.find(marker) if self._form.marker else (0 if self._held.startswith(marker) else -1)
        if start >= 0:
            self._is_call = True
        else:
            start = len(self._held) - overlap(self._held, marker)
        text, self._held = self._held[:start], self._held[start:]
        self._has_text = self._has_text or bool(text)
        return text

    def finish(self) -> tuple[str, tuple[ToolCall, ...]]:
        """Return the text that was held back, and the calls. Calls that were cut off are text."""
        if not self._is_call:
            return self._held, ()
        calls = _read_calls(self._held, self._form)
        return ("", calls) if calls else (self._held, ())


def _read_calls(text: str, form: CallForm) -> tuple[ToolCall, ...]:
    decoder = json.JSONDecoder()
    calls: list[ToolCall] = []
    position = text.find("{")
    while position >= 0:
        try:
            document, end = decoder.raw_decode(text, position)
        except ValueError:
            break  # cut off in the middle
        name = document.get("name")
        arguments = document.get(form.arguments_key)
        if not isinstance(name, str) or not isinstance(arguments, dict):
            break
        calls.append(ToolCall(_new_id(), name, json.dumps(arguments, ensure_ascii=False)))
        position = text.find("{", end)
    return tuple(calls)


def with_tools_in_text(messages: Sequence[Mapping[str, Any]], use: ToolUse | None) -> tuple[Mapping[str, Any], ...]:
    """Return a conversation for a template that has no place for functions: all of them, and calls, are text.

    Args:
        messages: of OpenAI's form, with `tool_calls` and the role `tool`.
        use: the functions that may be called; None where none are offered any more.
    """
    plain = tuple(map(_in_text, messages))
    if use is None:
        return plain
    listed = "\n".join(json.dumps(document, ensure_ascii=False) for document in use.documents())
    instruction = (
        "You may call functions to answer. Their signatures are in <tools></tools>:\n"
        f"<tools>\n{listed}\n</tools>\n"
        "For each call, write a JSON object with the function's name and arguments in <tool_call></tool_call>:\n"
        '<tool_call>\n{"name": <name>, "arguments": <arguments>}\n</tool_call>'
    )
    if plain and plain[0]["role"] == "system":
        return ({"role": "system", "content": f"{plain[0]['content']}\n\n{instruction}"}, *plain[1:])
    return ({"role": "system", "content": instruction}, *plain)


def _in_text(message: Mapping[str, Any]) -> Mapping[str, Any]:
    if message["role"] == "tool":
        return {"role": "user", "content": f"<tool_response>\n{message['content']}\n</tool_response>"}
    calls = [
        f'<tool_call>\n{{"name": {json.dumps(call["function"]["name"])}, "arguments": '
        f"{json.dumps(call['function']['arguments'], ensure_ascii=False)}}}\n</tool_call>"
        for call in message.get("tool_calls", ())
    ]
    parts = [part for part in (message["content"], *calls) if part]
    return {"role": message["role"], "content": "\n".join(parts)}


def _new_id() -> str:
    return "".join(secrets.choice(_ID_LETTERS) for _ in range(_ID_LENGTH))


def _quoted(text: str) -> str:
    return json.dumps(text) if text else ""
