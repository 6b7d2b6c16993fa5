"""Task `feature-extraction`: sentence embeddings, or hidden states where the checkpoint says nothing of sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastserve_converters.checkpoints.task import ModelOutput, Pairs
from fastserve_runtime.bundle.axes import BATCH, CHANNELS, TOKENS

if TYPE_CHECKING:
    import torch

    from fastserve_converters.checkpoints.checkpoint import Checkpoint

HEADS = ("Model", "ForMaskedLM", "ForPreTraining")
HEAD_WEIGHTS: tuple[tuple[str, ...], ...] = ()
IN_ANY_MODEL = True
AUTO_CLASS = "AutoModel"
HIDDEN_STATES = ModelOutput("last_hidden_state", "last_hidden_state", (BATCH, TOKENS, CHANNELS))
EMBEDDING = ModelOutput("sentence_embedding", "last_hidden_state", (BATCH, CHANNELS))
# The encoder families make a pooler for classification heads.
UNUSED = ("pooler",)
HAS_LABELS = False
POOLS = True
MODEL = "encoder"
RANKS = False
PAIRS: Pairs = "never"


def outputs(checkpoint: Checkpoint) -> tuple[ModelOutput, ...]:
    """Return `sentence_embedding` where the checkpoint says how to pool, else `last_hidden_state`."""
    return (HIDDEN_STATES if checkpoint.sentence_head is None else EMBEDDING,)


def settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return how sentences are embedded, for people who read the manifest; the pipeline needs nothing."""
    head = checkpoint.sentence_head
    return {} if head is None else head.settings()


def label_kind(checkpoint: Checkpoint) -> None:
    """Return None: labels are not read."""


def reference_outputs(
    model: torch.nn.Module, checkpoint: Checkpoint, inputs: Mapping[str, torch.Tensor]
) -> Mapping[str, torch.Tensor]:
    """Return sentence embeddings, shape [n, d], or hidden states, shape [n, tokens, d]."""
    from fastserve_converters.models.sentence_layers import load_layers
    from fastserve_converters.models.sentence_reference import sentence_embeddings
    from fastserve_runtime.bundle.raw_inputs import POOLING_MASK

    head = checkpoint.sentence_head
    if head is None:
        return {HIDDEN_STATES.name: model(**inputs).last_hidden_state}
    more = {"output_hidden_states": True} if head.needs_all_layers else {}
    result = model(**{name: value for name, value in inputs.items() if name != POOLING_MASK}, **more)
    embeddings = sentence_embeddings(
        head,
        load_layers(checkpoint.root, head),
        result.last_hidden_state,
        inputs.get(POOLING_MASK, inputs["attention_mask"]),
        result.hidden_states if head.needs_all_layers else None,
    )
    return {EMBEDDING.name: embeddings}
