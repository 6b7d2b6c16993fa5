"""Prompts: texts that are put before what a model is given, as it has learnt, such as `query: `."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastserve_runtime.errors import UsageError
from fastserve_runtime.parsing import Fields

if TYPE_CHECKING:
    from fastserve_runtime.bundle.raw_inputs import Text

NO_PROMPT = ""
"""The name that stands for no prompt at all."""
SETTINGS = ("prompts", "default_prompt", "unpooled_tokens")
"""What a manifest's settings call them."""


@dataclass(frozen=True)
class Prompts:
    """The prompts of a model.

    Attributes:
        texts: by name.
        default: the name of the prompt that is taken if none is named, or None.
        unpooled: how many of the first tokens, special ones included, each prompt keeps out of the pooling; None where
            prompts are pooled as the text is.
    """

    texts: Mapping[str, str]
    default: str | None = None
    unpooled: Mapping[str, int] | None = None

    @classmethod
    def from_document(cls, document: Mapping[str, Any], where: str) -> Prompts | None:
        """Read `prompts`, `default_prompt` and `unpooled_tokens` of a manifest's settings; None where there are none.

        Raises:
            BundleError: they are not of the kind that they must be.
        """
        if "prompts" not in document:
            return None
        fields = Fields(dict(document), where)
        texts = Fields(dict(fields.mapping("prompts")), f"{where}.prompts")
        names = list(fields.mapping("prompts"))
        default = fields.optional_text("default_prompt") if "default_prompt" in document else None
        unpooled = None
        if "unpooled_tokens" in document:
            counts = Fields(dict(fields.mapping("unpooled_tokens")), f"{where}.unpooled_tokens")
            unpooled = {name: counts.count(name) for name in names}
        if default is not None:
            texts.text(default)
        return cls({name: texts.text(name) for name in names}, default, unpooled)

    def as_document(self) -> dict[str, Any]:
        """Return the settings as a manifest has them; `from_document` reads them back."""
        document: dict[str, Any] = {"prompts": dict(self.texts)}
        if self.default is not None:
            document["default_prompt"] = self.default
        if self.unpooled is not None:
            document["unpooled_tokens"] = dict(self.unpooled)
        return document


def chosen_prompt(prompts: Prompts | None, name: str | None) -> str:
    """Return the name of the prompt that a call takes; `NO_PROMPT` for none.

    Args:
        prompts: the model's.
        name: as it was asked for; None: the default.

    Raises:
        UsageError: there is no such prompt.
    """
    if name is None:
        return NO_PROMPT if prompts is None or prompts.default is None else prompts.default
    if name == NO_PROMPT or (prompts is not None and name in prompts.texts):
        return name
    known = ", ".join(prompts.texts) if prompts is not None else ""
    raise UsageError(
        f"The bundle has no prompt '{name}'.",
        f"Its prompts are: {known}." if known else "It has none: leave the prompt out.",
    )


def with_prompt(prompts: Prompts | None, name: str, text: Text) -> Text:
    """Return a text, or a pair's first text with the second behind it, with a prompt before it."""
    before = prompts.texts[name] if prompts is not None and name != NO_PROMPT else ""
    return before + text if isinstance(text, str) else (before + text[0], text[1])


def unpooled_tokens(prompts: Prompts | None, name: str) -> int | None:
    """Return how many of the first tokens are not pooled; None where the model pools all of them anyway."""
    if prompts is None or prompts.unpooled is None:
        return None
    return 0 if name == NO_PROMPT else prompts.unpooled[name]
