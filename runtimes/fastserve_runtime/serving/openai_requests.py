"""Requests of OpenAI's API, checked and typed.

The fields are those of OpenAI's API reference for chat completions, completions and embeddings; beside them `top_k`,
`min_p`, `typical_p`, `repetition_penalty`, `chat_template_kwargs`, `add_generation_prompt` and
`continue_final_message`, as other servers of this API have them. A field that asks for what this server does not do is
refused, unless leaving it out means the same: those of other servers that change the text as well. Fields that are not
known are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from fastserve_runtime.errors import UsageError
from fastserve_runtime.generation.chat_template import ROLES
from fastserve_runtime.generation.grammar import Grammar
from fastserve_runtime.generation.prompt_tokenizer import TemplateOptions
from fastserve_runtime.generation.tools import ToolUse
from fastserve_runtime.serving.refusal import Refusal
from fastserve_runtime.serving.request_fields import PROMPT_NAME, RequestFields, message_text, wrong
from fastserve_runtime.serving.structured_requests import called_tools, response_grammar, tool_use

OF_OTHER_SERVERS_FOR_TEXTS = ("truncate_prompt_tokens", "truncation", "truncation_direction")
"""What other servers take for embeddings, labels and ranks, and what changes their texts."""
MAX_STOP_STRINGS = 4
MAX_TEXTS = 2048
COMPLETION_TOKENS = 16
"""So many tokens a completion has at most if its request does not say; an answer in a chat may fill the context."""
_OF_OTHER_SERVERS: Mapping[str, tuple[Any, ...]] = {
    # vLLM's
    "allowed_token_ids": ([],),
    "bad_words": ([],),
    "chat_template": (),
    "documents": ([],),
    "guided_choice": (),
    "guided_decoding_backend": (),
    "guided_grammar": (),
    "guided_json": (),
    "guided_regex": (),
    "ignore_eos": (False,),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1,),
    "min_tokens": (0,),
    "prompt_logprobs": (),
    "skip_special_tokens": (True,),
    "stop_token_ids": ([],),
    "structured_outputs": (),
    "truncate_prompt_tokens": (-1,),
    "use_beam_search": (False,),
    # llama.cpp's
    "dry_multiplier": (0,),
    "dynatemp_range": (0,),
    "grammar": ("",),
    "json_schema": ({},),
    "mirostat": (0,),
    "n_predict": (-1,),
    "n_probs": (0,),
    "repeat_penalty": (1,),
    "top_n_sigma": (-1, 0),
    "xtc_probability": (0,),
    # of several
    "no_repeat_ngram_size": (0,),
    "top_a": (0,),
    "tfs_z": (1,),
}
"""What other servers of this API take and what changes a text there, with the values that change nothing."""
_UNLIMITED = 2**31 - 1
_INT64 = 2**63

Message = Mapping[str, Any]
Encoding = Literal["float", "base64"]


@dataclass(frozen=True)
class GenerationRequest:
    """A text to be continued, or a conversation to be answered.

    Attributes:
        model: the id of the model; None if the request names none.
        prompt: the text, or messages of `role`, `content` and, where tools were called, `tool_calls`.
        options: the arguments of `TextGeneration.stream` that the request sets.
        stream: whether the text is sent piece by piece.
        include_usage: whether the counts of tokens are sent behind the pieces.
    """

    model: str | None
    prompt: str | tuple[Message, ...]
    options: Mapping[str, Any]
    stream: bool
    include_usage: bool


@dataclass(frozen=True)
class EmbeddingRequest:
    """Texts to be embedded.

    Attributes:
        model: the id of the model; None if the request names none.
        texts: at least one.
        encoding: lists of numbers, or base64 of little-endian float32.
        prompt: the name of what is put before each text; None: what the model usually has there, `""`: nothing.
    """

    model: str | None
    texts: tuple[str, ...]
    encoding: Encoding
    prompt: str | None = None

    @property
    def samples(self) -> tuple[str, ...]:
        """The texts."""
        return self.texts


def chat_request(document: Mapping[str, Any]) -> GenerationRequest:
    """Read the body of `POST /v1/chat/completions`.

    Raises:
        Refusal: a field is wrong, or asks for what this server does not do.
    """
    fields = RequestFields(document)
    for name, values in {
        "logprobs": (False,),
        "top_logprobs": (0,),
        "functions": ([],),
        "function_call": ("none", "auto"),
        "modalities": (["text"],),
        "audio": (),
        "add_special_tokens": (False,),
    }.items():
        fields.only(name, *values)
    maximum = fields.integer("max_completion_tokens", 1, _UNLIMITED) or fields.integer("max_tokens", 1, _UNLIMITED)
    request = _generation_request(fields, _messages(fields.value("messages")), maximum or _UNLIMITED)
    tools, grammar = tool_use(fields), response_grammar(fields.value("response_format"))
    if tools is not None and grammar is not None:
        raise Refusal(400, "response_format and tools cannot be used together. Leave one out.", parameter="tools")
    return replace(request, options={**request.options, "template": _template(fields), **_given(tools, grammar)})


def completion_request(document: Mapping[str, Any]) -> GenerationRequest:
    """Read the body of `POST /v1/completions`.

    Raises:
        Refusal: a field is wrong, or asks for what this server does not do.
    """
    fields = RequestFields(document)
    for name, values in {
        "logprobs": (),
        "best_of": (1,),
        "echo": (False,),
        "suffix": ("",),
        "add_special_tokens": (True,),
    }.items():
        fields.only(name, *values)
    maximum = fields.integer("max_tokens", 1, _UNLIMITED)
    request = _generation_request(fields, _prompt(fields.value("prompt")), maximum or COMPLETION_TOKENS)
    grammar = response_grammar(fields.value("response_format"))
    return replace(request, options={**request.options, **_given(None, grammar)})


def embedding_request(document: Mapping[str, Any]) -> EmbeddingRequest:
    """Read the body of `POST /v1/embeddings`.

    Raises:
        Refusal: a field is wrong, or asks for what this server does not do.
    """
    fields = RequestFields(document)
    for name in ("dimensions", "input_type", "instruction", "normalize", *OF_OTHER_SERVERS_FOR_TEXTS):
        fields.only(name)
    return EmbeddingRequest(
        fields.text("model"),
        texts_of(fields.value("input"), "input"),
        _encoding(fields.text("encoding_format")),
        fields.text(PROMPT_NAME),
    )


def _generation_request(
    fields: RequestFields, prompt: str | tuple[Message, ...], max_new_tokens: int
) -> GenerationRequest:
    fields.only("n", 1)
    fields.only("frequency_penalty", 0)
    fields.only("presence_penalty", 0)
    fields.only("logit_bias", {})
    for name, harmless in _OF_OTHER_SERVERS.items():
        fields.only(name, *harmless)
    seed = fields.integer("seed", -_INT64, _INT64 - 1)
    given: dict[str, Any] = {
        "temperature": fields.number("temperature", 0, 2),
        "top_p": fields.number("top_p", 0, 1),
        "top_k": fields.integer("top_k", -1, _UNLIMITED),
        "min_p": fields.number("min_p", 0, 1),
        "typical_p": fields.number("typical_p", 0, 1),
        "repetition_penalty": fields.number("repetition_penalty", 0, 10),
        "seed": None if seed is None else seed % (2 * _INT64),
    }
    options = {name: value for name, value in given.items() if value is not None}
    for name in ("repetition_penalty", "typical_p"):
        if options.get(name) == 0:
            raise wrong(name, 0, "a number above 0")
    if options.get("top_k") == -1:  # so do other servers name all
        options["top_k"] = 0
    options |= {"max_new_tokens": max_new_tokens, "stop": _stop_strings(fields.value("stop"))}
    stream = fields.flag("stream")
    return GenerationRequest(fields.text("model"), prompt, options, stream, _include_usage(fields, is_stream=stream))


def _given(tools: ToolUse | None, grammar: Grammar | None) -> dict[str, Any]:
    return {name: value for name, value in (("tools", tools), ("grammar", grammar)) if value is not None}


def _template(fields: RequestFields) -> TemplateOptions:
    is_continued = fields.flag("continue_final_message") or _is_prefix(fields.value("messages"))
    begins = fields.value("add_generation_prompt")
    begins_answer = not is_continued if begins is None else fields.flag("add_generation_prompt")
    try:
        return TemplateOptions(begins_answer, is_continued, fields.mapping("chat_template_kwargs"))
    except UsageError as error:
        raise Refusal(400, str(error), parameter="chat_template_kwargs" if not is_continued else None) from error


def _is_prefix(messages: list[Any]) -> bool:
    """Whether the last message is the beginning of the answer, as DeepSeek's and Mistral's APIs say it."""
    return RequestFields(messages[-1]).flag("prefix")


def _include_usage(fields: RequestFields, *, is_stream: bool) -> bool:
    options = fields.value("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise wrong("stream_options", options, "an object")
    if not is_stream:
        raise Refusal(400, "stream_options is only for streams. Set stream to true.", parameter="stream_options")
    return RequestFields(options).flag("include_usage")


def _stop_strings(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    strings = [value] if isinstance(value, str) else value
    is_sound = isinstance(strings, list) and all(isinstance(s, str) and s for s in strings)
    if not is_sound or len(strings) > MAX_STOP_STRINGS:
        raise wrong("stop", value, f"a string, or a list of at most {MAX_STOP_STRINGS}, none of them empty")
    return tuple(strings)


def _messages(value: Any) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise wrong("messages", value, "a list of at least one message")
    return tuple(_message(message, f"messages[{number}]") for number, message in enumerate(value))


def _message(message: Any, place: str) -> Message:
    if not isinstance(message, dict):
        raise wrong(place, message, "an object with role and content")
    role = message.get("role")
    if role not in ROLES:
        raise wrong(f"{place}.role", role, f"one of {', '.join(ROLES)}")
    if message.get("function_call"):
        raise Refusal(400, f"{place}.function_call is of an older API. Give tool_calls.", parameter=place)
    # Newer clients say `developer` for what templates know as `system`.
    found: dict[str, Any] = {"role": "system" if role == "developer" else role}
    content = message.get("content")
    if content is None and role == "assistant":  # it only called tools, or refused to answer
        refusal = message.get("refusal")
        content = "" if refusal is None else message_text(refusal, f"{place}.refusal")
    found["content"] = _content(content, f"{place}.content", _PARTS if role != "assistant" else _PARTS_OF_ANSWERS)
    if role == "assistant" and message.get("tool_calls"):
        found["tool_calls"] = called_tools(message["tool_calls"], f"{place}.tool_calls")
    for name in ("name", "tool_call_id"):
        if message.get(name) is not None:
            found[name] = message_text(message[name], f"{place}.{name}")
    return found


_PARTS = ("text",)
_PARTS_OF_ANSWERS = ("text", "refusal")
"""Types of parts, each of which has its text in the field of that name."""


def _content(content: Any, place: str, kinds: tuple[str, ...]) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise wrong(place, content, "a string or a list of text parts")
    texts = []
    for number, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else part
        if kind not in kinds or not isinstance(part.get(kind), str):
            raise wrong(f"{place}[{number}].type", kind, "a part of type 'text' with a text; the model reads text only")
        texts.append(part[kind])
    return "\n".join(texts)


def _prompt(value: Any) -> str:
    prompts = [value] if isinstance(value, str) else value
    if isinstance(prompts, list) and prompts and _is_tokens(prompts):
        raise _no_tokens("prompt")
    if not isinstance(prompts, list) or len(prompts) != 1 or not isinstance(prompts[0], str):
        raise wrong("prompt", value, "one string; send several in requests of their own")
    return str(prompts[0])


def _encoding(name: str | None) -> Encoding:
    for known in get_args(Encoding):
        if name in (known, None):
            found: Encoding = known
            return found
    raise wrong("encoding_format", name, f"one of {', '.join(get_args(Encoding))}")


def texts_of(value: Any, field: str) -> tuple[str, ...]:
    """Return the texts of a field: one string, or a list of them.

    Raises:
        Refusal: it is something else, or one of them is empty.
    """
    texts = [value] if isinstance(value, str) else value
    if isinstance(texts, list) and texts and _is_tokens(texts):
        raise _no_tokens(field)
    if not isinstance(texts, list) or not 0 < len(texts) <= MAX_TEXTS:
        raise wrong(field, value, f"a string, or a list of 1 to {MAX_TEXTS}")
    for number, text in enumerate(texts):
        if not isinstance(text, str) or not text:
            raise wrong(f"{field}[{number}]", text, "a string that is not empty")
    return tuple(texts)


def _is_tokens(values: list[Any]) -> bool:
    first = values[0]
    return (isinstance(first, int) and not isinstance(first, bool)) or (
        isinstance(first, list) and all(isinstance(token, int) for token in first)
    )


def _no_tokens(name: str) -> Refusal:
    return Refusal(
        400,
        f"{name} is a list of token ids, which mean something else to each model. Send the text.",
        parameter=name,
    )
