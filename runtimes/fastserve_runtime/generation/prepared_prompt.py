"""A prompt as the model gets it, and what its answer is held to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fastserve_runtime.errors import UsageError
from fastserve_runtime.generation.detokenization import Decoder, ShowingDecoder
from fastserve_runtime.generation.grammar import Grammar, GrammarConstraint
from fastserve_runtime.generation.prompt_tokenizer import Message, PromptTokenizer, TemplateOptions
from fastserve_runtime.generation.tools import (
    HERMES,
    CallReader,
    ToolUse,
    call_form,
    call_grammar,
    with_tools_in_text,
)


@dataclass(frozen=True)
class PreparedPrompt:
    """What a generation begins with.

    Attributes:
        tokens: of the prompt.
        is_continued: whether the answer goes on with text of the prompt, so that a space may begin it.
        decoder: makes text of the answer's tokens.
        constraint: the grammar that the answer follows, or None.
        calls: tells text from calls of functions, or None where none may be called.
    """

    tokens: Sequence[int]
    is_continued: bool
    decoder: Decoder
    constraint: GrammarConstraint | None = None
    calls: CallReader | None = None


def prepared(
    tokenizer: PromptTokenizer,
    prompt: str | Sequence[Message],
    template: TemplateOptions,
    grammar: Grammar | None,
    tools: ToolUse | None,
) -> PreparedPrompt:
    """Prepare a prompt.

    Args:
        tokenizer: the model's.
        prompt: a text, or messages.
        template: how messages are rendered.
        grammar: what the answer must look like.
        tools: functions that the model may call; not together with a grammar.

    Raises:
        InputError: the messages are none, or the template refuses them.
        UsageError: the model has no chat template, or the grammar cannot be enforced.
        EnvironmentFailure: the library for grammars is missing.
    """
    source = tokenizer.settings.template(has_tools=tools is not None)
    if isinstance(prompt, str) or source is None:
        if tools is not None:
            raise UsageError("Only an answer in a conversation can call tools.", "Leave the tools out.")
        is_continued, form = isinstance(prompt, str), None
    else:
        is_continued, form = template.continue_final_message, call_form(source)
        has_calls = any(m.get("tool_calls") or m.get("role") == "tool" for m in prompt if isinstance(m, dict))
        if form is None and (tools is not None or has_calls):
            prompt, form = with_tools_in_text(prompt, tools), HERMES
        elif tools is not None:
            template = replace(template, values={**template.values, "tools": tools.documents()})
    tokens = tokenizer.encode(prompt, template)
    decoder: Decoder = tokenizer.tokenizer
    if tools is None or form is None:
        constraint = None if grammar is None else tokenizer.constraint(grammar)
        return PreparedPrompt(tokens, is_continued, decoder, constraint)
    if grammar is not None:
        raise UsageError("An answer cannot follow a grammar and call tools.", "Leave one of both out.")
    marker_id = tokenizer.tokenizer.token_to_id(form.marker) if form.marker else None
    if marker_id is not None:
        decoder = ShowingDecoder(decoder, marker_id, form.marker)
    held_to = Grammar(call_grammar(tools, form, marker_id), "A tool's JSON schema")
    return PreparedPrompt(tokens, is_continued, decoder, tokenizer.constraint(held_to), CallReader(form))
