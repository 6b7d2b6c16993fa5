"""Task `text-classification`: logits of classes, of labels that may all be right, or values.

Quality of classes is, with labels, the variant's accuracy divided by the reference's; without, how often both give the
same class (then called agreement, because it says nothing about being right). Where several labels may be right it is
the micro-F1 divided by the reference's, or how often both decide alike on a label. Of values (regression) it is
Spearman's correlation with the reference's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastserve_converters.checkpoints.task import ModelOutput, Pairs
from fastserve_runtime.bundle.axes import BATCH, CLASSES
from fastserve_runtime.conformance.quality import Quality, reference_name

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from fastserve_converters.checkpoints.checkpoint import Checkpoint
    from fastserve_converters.data import LabelKind
    from fastserve_runtime.conformance.comparison import Comparison

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

AGREEMENT = "top-1 agreement"
ACCURACY_RATIO = "accuracy ÷ reference's"
LABEL_AGREEMENT = "agreement per label"
MICRO_F1_RATIO = "micro-F1 ÷ reference's"


def outputs(checkpoint: Checkpoint) -> tuple[ModelOutput, ...]:
    """Return `logits`."""
    return (LOGITS,)


def settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the class names in the order of the logits, the problem type, and an activation other than softmax."""
    from fastserve_runtime.pipelines.text_classification import USUAL_ACTIVATIONS, problem_type

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
    from fastserve_runtime.pipelines.text_classification import MULTI_LABEL, REGRESSION

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


def quality(compared: Comparison) -> Quality:
    """Compare what both say of each text: its class, its labels, or its value."""
    import numpy as np

    from fastserve_runtime.pipelines.text_classification import MULTI_LABEL, REGRESSION, problem_type

    left, right = compared.first_outputs()
    problem = problem_type(compared.settings.get("problem_type"), left.shape[-1])
    judge = {REGRESSION: _values_quality, MULTI_LABEL: _label_sets_quality}.get(str(problem), _classes_quality)
    return judge(left, right, None if compared.labels is None else np.asarray(compared.labels), compared.seed)


def _classes_quality(
    reference: NDArray[np.float64], actual: NDArray[np.float64], labels: NDArray[np.generic] | None, seed: int
) -> Quality:
    import numpy as np

    from fastserve_runtime.conformance.metrics import mean_interval, ratio_interval

    expected, found = reference.argmax(-1), actual.argmax(-1)
    finite = np.isfinite(actual).all(-1)
    same = ((expected == found) & finite).astype(np.float64)
    if labels is None:
        interval = mean_interval(same, seed=seed)
        return Quality(AGREEMENT, interval.value, interval.low, interval.high, len(same))
    right = ((found == labels) & finite).astype(np.float64)
    reference_right = (expected == labels).astype(np.float64)
    interval = ratio_interval(right, reference_right, seed=seed)
    beside = {
        "accuracy": float(right.mean()),
        reference_name("accuracy"): float(reference_right.mean()),
        AGREEMENT: float(same.mean()),
    }
    return Quality(ACCURACY_RATIO, interval.value, interval.low, interval.high, len(same), beside)


def _label_sets_quality(
    reference: NDArray[np.float64], actual: NDArray[np.float64], labels: NDArray[np.generic] | None, seed: int
) -> Quality:
    """Compare decisions on every label; `labels` has 1 where one is right, shape [n, labels]."""
    import numpy as np

    from fastserve_runtime.conformance.metrics import bootstrap, mean_interval, micro_f1

    # A probability of one half is a logit of 0.
    expected, found = np.asarray(reference >= 0), np.asarray(actual >= 0)
    finite = np.asarray(np.isfinite(actual).all(-1))[:, None]
    same = np.asarray((expected == found) & finite).mean(-1)
    found &= finite
    if labels is None:
        interval = mean_interval(same, seed=seed)
        beside = {"micro-F1 against the reference": micro_f1(expected, found)}
        return Quality(LABEL_AGREEMENT, interval.value, interval.low, interval.high, len(same), beside)
    truth = np.asarray(labels, bool)

    def ratio(rows: NDArray[np.int64]) -> float:
        below = micro_f1(truth[rows], expected[rows])
        return micro_f1(truth[rows], found[rows]) / below if below else 0.0

    count = len(truth)
    interval = bootstrap(ratio(np.arange(count)), count, ratio, seed=seed, resamples=1000, confidence=0.95)
    beside = {
        "micro-F1": micro_f1(truth, found),
        "reference's micro-F1": micro_f1(truth, expected),
        LABEL_AGREEMENT: float(same.mean()),
    }
    return Quality(MICRO_F1_RATIO, interval.value, interval.low, interval.high, count, beside)


def _values_quality(
    reference: NDArray[np.float64], actual: NDArray[np.float64], labels: NDArray[np.generic] | None, seed: int
) -> Quality:
    """Compare values; with labels, beside it how both go with these."""
    import numpy as np

    from fastserve_runtime.conformance.scores import mean_pearson, mean_spearman, score_quality

    beside: dict[str, float] = {}
    if labels is not None:
        truth = np.asarray(labels, np.float64).reshape(len(labels), -1)
        for whose, values in (("", actual), ("reference's ", reference)):
            beside[f"{whose}Spearman correlation with the labels"] = mean_spearman(truth, values)
            beside[f"{whose}Pearson correlation with the labels"] = mean_pearson(truth, values)
    return score_quality(reference, actual, seed, beside)
