"""Task `text-classification`: logits of classes.

Quality is, with labels, the variant's accuracy divided by the reference's; without, how often both give the same class
(then called agreement, because it says nothing about being right).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastserve_converters.tasks import Quality

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from fastserve_converters.checkpoint import Checkpoint
    from fastserve_converters.tasks import Arrays

HEADS = ("ForSequenceClassification",)
HEAD_WEIGHTS = (
    (".pooler.dense.weight", "classifier.weight"),  # BERT
    (".pooler.weight", "classifier.weight"),  # ALBERT
    ("classifier.out_proj.weight",),  # RoBERTa
    ("pre_classifier.weight", "classifier.weight"),  # DistilBERT
)
IN_ANY_MODEL = False
AUTO_CLASS = "AutoModelForSequenceClassification"
MODEL_OUTPUT = "logits"
UNUSED: tuple[str, ...] = ()
HAS_LABELS = True
POOLS = False
GENERATES = False

AGREEMENT = "top-1 agreement"
ACCURACY_RATIO = "accuracy ÷ reference's"


def output_name(checkpoint: Checkpoint) -> str:
    """Return `logits`."""
    return MODEL_OUTPUT


def settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the class names in the order of the logits, and the problem type."""
    return {"labels": list(checkpoint.labels), "problem_type": checkpoint.config.get("problem_type")}


def reference_outputs(
    model: torch.nn.Module,
    checkpoint: Checkpoint,
    inputs: Mapping[str, torch.Tensor],
) -> torch.Tensor:
    """Return logits, shape [n, classes]."""
    logits: torch.Tensor = model(**inputs).logits
    return logits


def quality(
    reference: Arrays,
    actual: Arrays,
    inputs: Arrays,
    labels: NDArray[np.int64] | None,
    seed: int,
) -> Quality:
    """Compare the best classes."""
    import numpy as np

    from fastserve_runtime.metrics import mean_interval, ratio_interval

    name = next(iter(reference))
    expected, found = (np.asarray(outputs[name]).argmax(-1) for outputs in (reference, actual))
    finite = np.isfinite(np.asarray(actual[name], np.float64)).all(-1)
    same = ((expected == found) & finite).astype(np.float64)
    if labels is None:
        interval = mean_interval(same, seed=seed)
        return Quality(AGREEMENT, interval.value, interval.low, interval.high, len(same))
    right = ((found == labels) & finite).astype(np.float64)
    reference_right = (expected == labels).astype(np.float64)
    interval = ratio_interval(right, reference_right, seed=seed)
    beside = {
        "accuracy": float(right.mean()),
        "reference's accuracy": float(reference_right.mean()),
        AGREEMENT: float(same.mean()),
    }
    return Quality(ACCURACY_RATIO, interval.value, interval.low, interval.high, len(same), beside)
