"""Model families whose checkpoints can be exported, by the `model_type` of their config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastserve_runtime.errors import UsageError


@dataclass(frozen=True)
class Family:
    """What the family's members share.

    Attributes:
        name: as users know it.
        model: the kind of their models, a module of `models.sources`: `encoder`, or `decoder`, which continues texts.
        positions_after_padding: whether positions are counted from behind the padding index (RoBERTa, so that
            `max_position_embeddings` 514 means 512 tokens), instead of from 0.
        can_be_causal: whether the config's `is_decoder` makes an encoder see no later tokens.
        token_types: whether its members are trained to tell the two texts of a pair apart by `token_type_ids`.
    """

    name: str
    model: str = "encoder"
    positions_after_padding: bool = False
    can_be_causal: bool = False
    token_types: bool = False

    @property
    def generates(self) -> bool:
        """Whether its members continue texts, so that their configs say how to generate."""
        return self.model == "decoder"

    def first_position(self, config: Mapping[str, Any]) -> int:
        """Return the row of the position embedding that belongs to the first token."""
        padding = self.padding_in_positions(config)
        return 0 if padding is None else padding + 1

    def padding_in_positions(self, config: Mapping[str, Any]) -> int | None:
        """Return the id whose tokens the model does not count as positions; None where it counts all."""
        return int(config.get("pad_token_id", 1)) if self.positions_after_padding else None


_BERT = Family("BERT", can_be_causal=True, token_types=True)
_ALBERT, _DISTILBERT = Family("ALBERT", token_types=True), Family("DistilBERT")
_ROBERTA = Family("RoBERTa", positions_after_padding=True, can_be_causal=True)
_DECODERS = {
    "llama": "Llama",
    "mistral": "Mistral",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "gemma": "Gemma",
    "gemma2": "Gemma 2",
    "gemma3_text": "Gemma 3",
    "gpt2": "GPT-2",
    "phi3": "Phi-3",
}

FAMILIES: Mapping[str, Family] = {
    "bert": _BERT,
    "albert": _ALBERT,
    "distilbert": _DISTILBERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    **{model_type: Family(name, model="decoder") for model_type, name in _DECODERS.items()},
}


def family_of(model_type: str) -> Family:
    """Return the family of a config's `model_type`.

    Raises:
        UsageError: it is not supported; the message lists those that are.
    """
    if model_type not in FAMILIES:
        raise UsageError(
            f"The model's architecture '{model_type}' is not supported.",
            f"Supported are: {', '.join(sorted(FAMILIES))}.",
        )
    return FAMILIES[model_type]
