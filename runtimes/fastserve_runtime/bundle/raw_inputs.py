"""What bundles say of raw input: the kinds of preprocessing, the tensors that texts become, and texts themselves.

It stands below the preprocessors, so that looking at a manifest or a golden needs none of them, nor numpy.
"""

from __future__ import annotations

from typing import TypeAlias

TOKENIZER = "tokenizer"
"""The kind of preprocessing of models that read whole texts."""
TEXT_PAIR = "text-pair"
"""That of models that read two texts together."""
OF_TEXTS = (TOKENIZER, TEXT_PAIR)
PROMPTS = "prompt-tokenizer"
"""That of models that continue prompts."""
TENSORS = "tensors"
"""That of models of any kind, whose users make their tensors themselves."""
TOKEN_TYPES = "token_type_ids"  # noqa: S105 -- the name of an input
POOLING_MASK = "pooling_mask"
"""The attention mask without the tokens of a prompt, for a model that does not pool them."""

TextPair: TypeAlias = tuple[str, str]
Text: TypeAlias = str | TextPair
"""One sample of a text model: a text, or two that are read together."""


def tokenizable(text: str) -> str:
    """Return a text with `?` for lone surrogates, from bytes that were no UTF-8, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8")
