"""Task `text-classification`: logits of classes, of labels that may all be right, or values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastserve_converters.checkpoints.task import ModelOutput, Pairs
from fastserve_runtime.bundle.axes import BATCH, CLASSES
from fastserve_runtime.pipelines.text_classification.problem_types import (
    MULTI_LABEL,
    REGRESSION,
    USUAL_ACTIVATIONS,
    problem_type,
)

if TYPE_CHECKING:
    import torch

    from fastserve_converters.checkpoints.checkpoint import Checkpoint
    from fastserve_converters.data import LabelKind

HEADS = ("ForSequenceClassification",)
HEAD_WEIGHTS = (
    (".pooler.dense.weight", "classifier.weight"),  # BERT
    (".pooler.weight", "classifier.weight"),  # ALBERT
    ("classifier.out_proj.weight",),  # RoBERTa
    ("pre_classifier.weight", "classifier.weight"),  # DistilBERT
)
IN_ANY_MODEL = False
AUTO_CLASS = "AutoModelForSequenceClassification"
UNUSED: tuple[str, ...] = ()
HAS_LABELS = True
POOLS = False
MODEL = "encoder"
RANKS = False
PAIRS: Pairs = "optional"

LOGITS = ModelOutput("logits", "logits", (BATCH, CLASSES))


def outputs(checkpoint: Checkpoint) -> tuple[ModelOutput, ...]:
    """Return `logits`."""
    return (LOGITS,)


def settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the class names in the order of the logits, the problem type, and an activation other than softmax."""
    labels = list(checkpoint.labels)
    problem = problem_type(checkpoint.config.get("problem_type"), len(labels))
    found = {"labels": labels, "problem_type": problem}
    # A cross-encoder's plain logits of several classes are shown as Transformers shows them.
    own = checkpoint.activation if len(labels) == 1 or checkpoint.activation != "identity" else None
    activation = own or USUAL_ACTIVATIONS.get(str(problem), "softmax")
    return found | ({"activation": activation} if activation != "softmax" else {})


def label_kind(checkpoint: Checkpoint) -> LabelKind:
    """Return what labels are: a class, several of them, or a number."""
    from fastserve_converters.data import ClassLabels, LabelSets, Numbers

    problem = settings(checkpoint)["problem_type"]
    if problem == REGRESSION:
        return Numbers()
    return LabelSets(checkpoint.labels) if problem == MULTI_LABEL else ClassLabels(checkpoint.labels)


def reference_outputs(
    model: torch.nn.Module,
    checkpoint: Checkpoint,
    inputs: Mapping[str, torch.Tensor],
) -> Mapping[str, torch.Tensor]:
    """Return logits, shape [n, classes]."""
    return {LOGITS.name: model(**inputs).logits}
