"""How a checkpoint's prompts are made and its texts end: the settings that go into a bundle."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from fastserve_converters.checkpoints.generation_config import GenerationAdvice, sampling_document
from fastserve_converters.inputs._texts import different_tokens
from fastserve_runtime.errors import BundleError, EnvironmentFailure, FastServeError, UsageError, one_line
from fastserve_runtime.generation.prompt_tokenizer import (
    LOGITS_PROCESSORS,
    PromptSettings,
    PromptTokenizer,
    TemplateOptions,
)

_DEFAULT, _FOR_TOOLS = "default", "tool_use"
"""What Transformers calls the templates that it chooses by itself."""
_TOOL_TEMPLATE = "tool_template"
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Tells the weather.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "description": "Where?"}},
                "required": ["city"],
            },
        },
    }
]
_CONVERSATIONS: tuple[tuple[dict[str, str], ...], ...] = (
    ({"role": "user", "content": "What is the capital of France?"},),
    (
        {"role": "user", "content": "Grüß dich!\n"},
        {"role": "assistant", "content": "你好 👋"},
        {"role": "user", "content": " And now? "},
    ),
)


def prompt_settings(tokenizer: Any, advice: GenerationAdvice, context: int, vocabulary: int) -> PromptSettings:
    """Return the settings of a checkpoint.

    Args:
        tokenizer: Transformers' tokenizer.
        advice: what its `generation_config.json` advises.
        context: how many tokens the model is exported for.
        vocabulary: how many rows its embedding has.
    """
    templates = _templates(tokenizer)
    special = {name: str(text) for name, text in tokenizer.special_tokens_map.items() if isinstance(text, str)}
    return PromptSettings(
        context=context,
        beginning=tokenizer.bos_token_id,
        ends=tuple(sorted({*advice.ends, *filter(lambda end: end is not None, [tokenizer.eos_token_id])})),
        special_tokens=special,
        chat_template=templates.get(_DEFAULT),
        tool_template=templates.get(_FOR_TOOLS) if _DEFAULT in templates else None,
        sampling=advice.sampling,
        vocabulary_size=vocabulary,
        logits_processors=advice.processors,
    )


def template_notes(tokenizer: Any) -> Iterator[str]:
    """Tell of chat templates that a checkpoint has and that are not used.

    Args:
        tokenizer: Transformers' tokenizer.
    """
    templates = _templates(tokenizer)
    others = sorted(templates.keys() - {_DEFAULT, _FOR_TOOLS})
    if templates and _DEFAULT not in templates:
        yield (
            f"The tokenizer has chat templates named {', '.join(sorted(templates))}, and none named {_DEFAULT}: the "
            "model is exported without one."
        )
    elif others:
        yield f"The tokenizer also has chat templates named {', '.join(others)}, which are not used."


def _templates(tokenizer: Any) -> dict[str, str]:
    """Return a tokenizer's chat templates by their names; where it has but one, that is the default one."""
    found = tokenizer.chat_template
    if isinstance(found, Mapping):
        return {str(name): str(template) for name, template in found.items()}
    return {} if found is None else {_DEFAULT: str(found)}


def settings_document(settings: PromptSettings) -> dict[str, Any]:
    """Return settings as a manifest's preprocessing has them."""
    processors = settings.logits_processors.document()
    document = {
        **asdict(settings),
        "ends": list(settings.ends),
        "special_tokens": dict(settings.special_tokens),
        "sampling": sampling_document(settings.sampling),
    }
    for name in (LOGITS_PROCESSORS, _TOOL_TEMPLATE):  # what came later stands there only where there is some
        del document[name]
    later = {LOGITS_PROCESSORS: processors, _TOOL_TEMPLATE: settings.tool_template}
    return {**document, **{name: value for name, value in later.items() if value}}


def tokenizer_config(settings: PromptSettings) -> dict[str, Any]:
    """Return a `tokenizer_config.json`, as Transformers and ONNX Runtime GenAI read it beside a `tokenizer.json`."""
    template = {} if settings.chat_template is None else {"chat_template": settings.chat_template}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": settings.context,
        **settings.special_tokens,
        **template,
    }


def open_prompts(tokenizer_json: bytes, settings: PromptSettings) -> PromptTokenizer:
    """Open the runtime's tokenizer for prompts.

    Raises:
        UsageError: the chat template cannot be used on devices.
    """
    try:
        return PromptTokenizer(tokenizer_json, settings)
    except BundleError as error:
        raise _unusable_template(error.problem) from error


def prove_same_prompts(theirs: Any, ours: PromptTokenizer, texts: list[str]) -> None:
    """Compare the runtime's tokenizer and chat template with Transformers' own.

    Args:
        theirs: Transformers' tokenizer.
        ours: the runtime's.
        texts: texts to continue.

    Raises:
        EnvironmentFailure: they give different tokens.
        UsageError: the chat template cannot run in the runtime's sandbox.
    """
    for text in texts:
        if ours.encode(text) != list(theirs(text)["input_ids"]):
            raise different_tokens(text)
    if ours.settings.chat_template is None:
        return
    offers: list[dict[str, Any]] = [{}, *([{"tools": _TOOLS}] if ours.settings.tool_template else [])]
    for conversation, offered in itertools.product(_CONVERSATIONS, offers):
        try:
            given = ours.encode(conversation, TemplateOptions(values=offered))
        except FastServeError as error:
            raise _unusable_template(error.problem) from error
        try:
            expected = theirs.apply_chat_template(
                list(conversation), add_generation_prompt=True, tokenize=False, **offered
            )
        except Exception as error:  # a template may raise whatever its language has
            raise _unusable_template(one_line(error)) from error
        _check_known(ours, given)
        wanted = theirs(expected, add_special_tokens=False)["input_ids"]
        # A template may write today's date, so a difference in digits alone is none.
        if given != list(wanted) and not _differ_in_date(ours, given, expected):
            raise EnvironmentFailure(
                "The bundle's chat template and Transformers' give different prompts.",
                "Please report it with the checkpoint's tokenizer files.",
            )


def _check_known(tokenizer: PromptTokenizer, tokens: list[int]) -> None:
    """Refuse a chat template by which every conversation has a token that the model does not know."""
    rows = tokenizer.settings.vocabulary_size
    beyond = None if rows is None else next((token for token in tokens if token >= rows), None)
    if rows is not None and beyond is not None:
        raise UsageError(
            f"The checkpoint's chat template writes {tokenizer.tokenizer.id_to_token(beyond)!r:.60}, a token of the id "
            f"{beyond}; the model has the ids 0 to {rows - 1}.",
            "Correct the template, or remove it to export for texts alone.",
        )


def _unusable_template(reason: str) -> UsageError:
    return UsageError(
        f"The checkpoint's chat template cannot be used on devices: {reason}",
        "Give the tokenizer a plainer chat_template, or remove it to export for texts alone.",
    )


def _differ_in_date(ours: PromptTokenizer, given: list[int], expected: str) -> bool:
    text = ours.tokenizer.decode(given, skip_special_tokens=False)
    return _without_digits(text) == _without_digits(expected)


def _without_digits(text: str) -> str:
    return "".join(c for c in text if not c.isdigit())
