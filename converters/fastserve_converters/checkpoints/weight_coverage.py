"""Every tensor of a checkpoint is used, or known to play no part, or named in a refusal."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from fastserve_runtime.errors import UsageError

_NO_PART = re.compile(
    r"(^|\.)(position_ids|token_type_ids|embeddings\.position_ids)$"  # were buffers that only count
    r"|(^|\.)rotary_emb\.(inv_freq|cos_cached|sin_cached)$"  # worked out from the config
    r"|\.attn\.(masked_)?bias$"  # GPT-2's causal mask
    r"|^(loss|loss_fct|loss_fn|criterion)(\.|$)"  # what training compared with
)
PRETRAINING_HEADS = frozenset(
    {
        "cls",  # BERT
        "lm_head",  # RoBERTa
        "predictions",  # ALBERT
        "sop_classifier",
        "vocab_layer_norm",  # DistilBERT
        "vocab_projector",
        "vocab_transform",
    }
)
"""First parts of the names of heads that encoders are trained with and that nobody exports."""
TASK_HEADS = frozenset({"classifier", "pre_classifier", "qa_outputs", "score", "logits_proj", "sequence_summary"})
"""First parts of the names of heads for a task."""
_SHOWN = 2
_LAYER = re.compile(r"(?:^|\.)(?:layer|layers|h)\.(\d+)\.")


def plays_no_part(name: str) -> bool:
    """Whether a tensor of that name is none of a model's weights, but counts, or was of use in training alone."""
    return bool(_NO_PART.search(name))


def check_used(unexpected: Iterable[str], *, generates: bool, drops_heads: bool, unused: Collection[str]) -> None:
    """Refuse tensors that the loaded model has no place for, unless it is known that they play no part.

    Args:
        unexpected: names of such tensors, as Transformers tells them after its own renaming.
        generates: whether the model is a decoder, whose head is its own.
        drops_heads: whether the model was asked for without its head.
        unused: parts of names that the task never uses.

    Raises:
        UsageError: naming some of them.
    """
    left_out = set() if generates else PRETRAINING_HEADS | {"pooler"}
    if drops_heads:
        left_out |= TASK_HEADS
    unknown = sorted(
        name
        for name in unexpected
        if not plays_no_part(name)
        and name.partition(".")[0] not in left_out
        and not any(part in name for part in unused)
        and (generates or ".pooler." not in f".{name}")
    )
    if unknown:
        shown = ", ".join(f"'{name}'" for name in unknown[:_SHOWN])
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        raise UsageError(f"The checkpoint has weights that the model would not use: {shown}{more}.", _remedy(unknown))


def _remedy(names: list[str]) -> str:
    joined = " ".join(names)
    if "lora_" in joined or ".base_layer." in joined:
        return "They are of an adapter: merge it (PeftModel's merge_and_unload()) and save the whole model."
    if "distance_embedding" in joined:
        return "They are relative positions, which Transformers 5 no longer computes: export a model without them."
    if ".adapters." in joined or "adapter" in joined:
        return "They are of an adapter: merge it with the library that made it, and save the whole model."
    if any(_LAYER.search(name) for name in names):
        return "Check that config.json belongs to these weights: its number of layers, or biases that it leaves out."
    return (
        "Check that config.json and its 'architectures' belong to these weights; "
        "where they play no part, save the model without them."
    )
