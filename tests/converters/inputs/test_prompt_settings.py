"""Settings of prompts are the checkpoint's own, and prompts are proven to be those of Transformers."""

from __future__ import annotations

import copy
import json
from types import SimpleNamespace
from typing import Any

import pytest

from fastserve_converters.checkpoints.generation_config import read_advice
from fastserve_converters.inputs._prompt_settings import (
    prompt_settings,
    prove_same_prompts,
    settings_document,
    template_notes,
)
from fastserve_runtime.errors import EnvironmentFailure, UsageError
from fastserve_runtime.generation.prompt_tokenizer import PromptSettings, PromptTokenizer

TEXTS = ["Good morning.", "Grüße, 世界 👋", "  two\n\nlines ", "<s> in the text"]


@pytest.fixture
def changed(theirs) -> Any:
    """Transformers' tokenizer with another chat template."""

    def make(template: str | dict[str, str] | None) -> Any:
        tokenizer = copy.copy(theirs)
        tokenizer.chat_template = template
        return tokenizer

    return make


def settings_of(tokenizer: Any, generation: dict[str, Any] | None = None) -> PromptSettings:
    return prompt_settings(tokenizer, read_advice(generation or {}, 512), 64, 512)


@pytest.mark.parametrize(
    ("generation", "ends"),
    [
        ({}, (2,)),
        ({"eos_token_id": 2}, (2,)),
        ({"eos_token_id": [300, 7, 300]}, (2, 7, 300)),
        ({"eos_token_id": 7}, (2, 7)),
        ({"eos_token_id": None}, (2,)),
        ({"eos_token_id": []}, (2,)),
    ],
)
def test_every_end_is_known_once_and_the_tokenizers_own_is_among_them(theirs, generation, ends) -> None:
    assert settings_of(theirs, generation).ends == ends


def test_a_model_without_an_end_has_none(theirs) -> None:
    bare = SimpleNamespace(eos_token_id=None, bos_token_id=None, chat_template=None, special_tokens_map={})
    assert settings_of(bare) == PromptSettings(64, vocabulary_size=512)


def test_settings_are_those_of_the_tokenizer_and_go_through_the_manifest(theirs) -> None:
    settings = settings_of(theirs, {"do_sample": True, "top_p": 0.9, "eos_token_id": [2, 9]})
    assert settings.context == 64
    assert settings.beginning == 1
    assert settings.special_tokens == {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    assert settings.chat_template == theirs.chat_template
    assert PromptSettings.from_document(json.loads(json.dumps(settings_document(settings)))) == settings


@pytest.mark.parametrize(
    ("template", "chat", "for_tools", "note"),
    [
        (None, None, None, None),
        ("a", "a", None, None),
        ({"default": "a"}, "a", None, None),
        ({"default": "a", "tool_use": "b"}, "a", "b", None),
        (
            {"default": "a", "tool_use": "b", "rag": "c"},
            "a",
            "b",
            "also has chat templates named rag, which are not used",
        ),
        (
            {"tool_use": "b", "rag": "c"},
            None,
            None,
            "named rag, tool_use, and none named default: the model is exported",
        ),
    ],
)
def test_of_several_templates_those_are_taken_that_transformers_takes(changed, template, chat, for_tools, note) -> None:
    tokenizer = changed(template)
    settings = settings_of(tokenizer)
    assert (settings.chat_template, settings.tool_template) == (chat, for_tools)
    notes = list(template_notes(tokenizer))
    assert len(notes) == (note is not None)
    assert note is None or note in notes[0]
    document = settings_document(settings)
    assert ("tool_template" in document) == (for_tools is not None)
    assert PromptSettings.from_document(json.loads(json.dumps(document))) == settings


def test_a_template_for_tools_is_proven_with_tools(changed, ours) -> None:
    plain = "{% for m in messages %}{{ m.content }}{% endfor %}"
    with_tools = "{{ tools[0].function.name }}" + plain
    tokenizer = changed({"default": plain, "tool_use": with_tools})
    prove_same_prompts(tokenizer, ours(chat_template=plain, tool_template=with_tools), [])
    with pytest.raises(EnvironmentFailure, match="give different prompts"):
        prove_same_prompts(tokenizer, ours(chat_template=plain, tool_template=with_tools + "!"), [])


def test_the_same_tokenizer_and_template_pass(theirs, ours) -> None:
    settings = settings_of(theirs)
    prove_same_prompts(
        theirs, ours(chat_template=settings.chat_template, special_tokens=settings.special_tokens), TEXTS
    )


def test_other_tokens_of_a_text_are_found(theirs, ours) -> None:
    with pytest.raises(EnvironmentFailure, match="give different tokens for 'Good morning") as failure:
        prove_same_prompts(theirs, ours(begins=True), TEXTS)
    assert "report it" in failure.value.remedy


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m.content }}{% endfor %}",  # says nothing of the beginning of the answer
        "{% for m in messages %}{{ m.content | trim }}{% endfor %}<|assistant|>",
    ],
)
def test_another_template_is_found(theirs, ours, template: str) -> None:
    with pytest.raises(EnvironmentFailure, match="chat template and Transformers' give different prompts"):
        prove_same_prompts(
            theirs, ours(chat_template=template, special_tokens=settings_of(theirs).special_tokens), TEXTS
        )


def test_without_a_template_texts_alone_are_compared(theirs, ours) -> None:
    prove_same_prompts(theirs, ours(), TEXTS)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('no such roles') }}", "no such roles"),
        ("{{ messages.__class__.__mro__ }}", "__class__"),
        ("{% include 'other' %}", "no loader"),
    ],
)
def test_a_template_that_does_not_run_on_devices_is_refused_with_what_to_do(theirs, ours, template, reason) -> None:
    class Laxer:
        """Transformers' tokenizer, were its templates not in a sandbox."""

        def apply_chat_template(self, *_: Any, **__: Any) -> str:
            return "anything"

        def __call__(self, *arguments: Any, **settings: Any) -> Any:
            return theirs(*arguments, **settings)

    with pytest.raises(UsageError, match="chat template cannot be used on devices") as failure:
        prove_same_prompts(Laxer(), ours(chat_template=template), TEXTS)
    assert reason in failure.value.problem
    assert "plainer chat_template" in failure.value.remedy


def test_a_template_that_writes_a_token_that_the_model_has_not_is_refused_by_its_name(theirs, ours) -> None:
    tokenizer = copy.deepcopy(theirs)
    tokenizer.add_tokens(["<picture>"], special_tokens=True)
    tokenizer.chat_template = template = "{% for m in messages %}{{ m.content }}<picture>{% endfor %}"
    own = PromptTokenizer(
        tokenizer.backend_tokenizer.to_str().encode(),
        PromptSettings(64, chat_template=template, vocabulary_size=512),
    )
    with pytest.raises(UsageError, match=r"template writes '<picture>', a token of the id 512; .* ids 0 to 511"):
        prove_same_prompts(tokenizer, own, [])


def test_the_date_that_a_template_writes_may_differ(theirs, ours, changed) -> None:
    template = "{% for m in messages %}on day DAY: {{ m.content }}{% endfor %}"
    prove_same_prompts(changed(template.replace("DAY", "12")), ours(chat_template=template.replace("DAY", "7")), [])
    with pytest.raises(EnvironmentFailure, match="different prompts"):
        prove_same_prompts(changed(template), ours(chat_template=template.replace("DAY", "TAG")), [])
