"""Task `text-generation`: the next token of a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastserve_converters.checkpoints.task import ModelOutput, Pairs
from fastserve_runtime.bundle.axes import BATCH, TOKENS, VOCABULARY

if TYPE_CHECKING:
    import torch

    from fastserve_converters.checkpoints.checkpoint import Checkpoint

HEADS = ("ForCausalLM", "LMHeadModel")
HEAD_WEIGHTS = (("lm_head.weight",),)
IN_ANY_MODEL = False
AUTO_CLASS = "AutoModelForCausalLM"
UNUSED: tuple[str, ...] = ()
HAS_LABELS = False
POOLS = False
MODEL = "decoder"
INPUTS = "prompt-tokenizer"
RANKS = False
PAIRS: Pairs = "never"

LOGITS = ModelOutput("logits", "logits", (BATCH, TOKENS, VOCABULARY))


def outputs(checkpoint: Checkpoint) -> tuple[ModelOutput, ...]:
    """Return `logits`, of every token."""
    return (LOGITS,)


def settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return nothing: what prompts need is in the preprocessing's settings."""
    return {}


def label_kind(checkpoint: Checkpoint) -> None:
    """Return None: labels are not read."""


def reference_outputs(
    model: torch.nn.Module, checkpoint: Checkpoint, inputs: Mapping[str, torch.Tensor]
) -> Mapping[str, torch.Tensor]:
    """Return scores of what follows each token, shape [n, tokens, vocabulary]; see `Task.reference_outputs`."""
    return {LOGITS.name: model(**inputs, use_cache=False).logits}
