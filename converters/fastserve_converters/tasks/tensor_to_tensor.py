"""Task `tensor-to-tensor`: any torch module, by its named tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastserve_converters.checkpoints.task import ModelOutput, Pairs

if TYPE_CHECKING:
    import torch

    from fastserve_converters.checkpoints.checkpoint import Checkpoint

HEADS: tuple[str, ...] = ()
HEAD_WEIGHTS: tuple[tuple[str, ...], ...] = ()
IN_ANY_MODEL = False
AUTO_CLASS = "AutoModel"
UNUSED: tuple[str, ...] = ()
HAS_LABELS = False
POOLS = False
RANKS = False
MODEL = "program"
INPUTS = "tensors"
PAIRS: Pairs = "never"


def outputs(checkpoint: Checkpoint) -> tuple[ModelOutput, ...]:
    """Return none: a program tells its own."""
    return ()


def settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return nothing: the pipeline needs nothing."""
    return {}


def label_kind(checkpoint: Checkpoint) -> None:
    """Return None: labels are not read."""


def reference_outputs(
    model: torch.nn.Module, checkpoint: Checkpoint, inputs: Mapping[str, torch.Tensor]
) -> Mapping[str, torch.Tensor]:
    """Run a module that takes its inputs by name."""
    found: Mapping[str, torch.Tensor] = model(**inputs)
    return found
