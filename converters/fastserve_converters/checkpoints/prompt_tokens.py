"""The prompts of a sentence-transformers model, as a bundle's settings have them."""

from __future__ import annotations

from typing import Any

from fastserve_converters.checkpoints.sentence_transformers import TextSettings
from fastserve_runtime.errors import UsageError
from fastserve_runtime.preprocessors.text_prompts import Prompts


def prompts_of(texts: TextSettings, tokenizer: Any, length: int) -> Prompts | None:
    """Return a model's prompts; None where it has none.

    Args:
        texts: what its files say.
        tokenizer: of Transformers, the model's own.
        length: tokens that the model is exported for.

    Raises:
        UsageError: a prompt leaves no room for a text.
    """
    if not texts.prompts:
        return None
    ids = {name: tokenizer(text)["input_ids"] if text else [] for name, text in texts.prompts.items()}
    for name, own in ids.items():
        if len(own) >= length:
            raise UsageError(
                f"The prompt '{name}' has {len(own)} tokens, special ones included; texts are cut at {length}.",
                f"Ask for a --seq-len well above {len(own)}, so that a text finds room behind it.",
            )
    if texts.includes_prompt or not any(texts.prompts.values()):
        return Prompts(texts.prompts, texts.default_prompt)
    special = set(tokenizer.all_special_ids)
    # As sentence-transformers counts: a special token at the end closes the text, not the prompt.
    unpooled = {name: len(own) - bool(own and own[-1] in special) for name, own in ids.items()}
    return Prompts(texts.prompts, texts.default_prompt, unpooled)
