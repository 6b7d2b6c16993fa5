"""Quality of `text-classification`: of classes, of labels that may all be right, or of values.

Of classes it is, with labels, the variant's accuracy divided by the reference's; without, how often both give the same
class (then called agreement, because it says nothing about being right). Where several labels may be right it is the
micro-F1 divided by the reference's, or how often both decide alike on a label. Of values (regression) it is Spearman's
correlation with the reference's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastserve_runtime.activations import sigmoid, softmax
from fastserve_runtime.conformance.metrics import bootstrap, mean_interval, micro_f1, ratio_interval
from fastserve_runtime.conformance.quality import Quality, reference_name
from fastserve_runtime.conformance.scores import mean_pearson, mean_spearman, score_quality
from fastserve_runtime.pipelines.text_classification.problem_types import MULTI_LABEL, REGRESSION, problem_type

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastserve_runtime.conformance.comparison import Comparison

EXPECTED_ACCURACY = "expected accuracy ÷ reference's"
EXPECTED_LABEL_ACCURACY = "expected accuracy per label ÷ reference's"
AGREEMENT = "top-1 agreement"
ACCURACY_RATIO = "accuracy ÷ reference's"
LABEL_AGREEMENT = "agreement per label"
MICRO_F1_RATIO = "micro-F1 ÷ reference's"


def task_metric(compared: Comparison) -> Quality:
    """Compare accuracies without labels, by the reference's own probabilities.

    If these are calibrated, the class that a variant chooses is right as often as the reference says. So a flip between
    two classes that are as good as equal costs nothing, unlike in the agreement: quantization lowers that to 96 % where
    the accuracy stays. Where several labels may be right, each is decided for itself. Values of a regression have no
    classes; the metric is their rank correlation then.
    """
    left, right = compared.first_outputs()
    problem = problem_type(compared.settings.get("problem_type"), left.shape[-1])
    if problem == REGRESSION:
        return score_quality(left, right, compared.seed)
    finite = np.asarray(np.isfinite(right).all(-1))
    known = np.where(finite[:, None], right, 0.0)
    if problem == MULTI_LABEL:
        chances = sigmoid(left)
        found = np.where(finite[:, None], np.where(known >= 0, chances, 1 - chances), 0.0).mean(-1)
        name, best = EXPECTED_LABEL_ACCURACY, np.maximum(chances, 1 - chances).mean(-1)
    else:
        chances, rows = softmax(left), np.arange(len(left))
        found = np.where(finite, chances[rows, known.argmax(-1)], 0.0)
        name, best = EXPECTED_ACCURACY, chances.max(-1)
    interval = ratio_interval(found, best, seed=compared.seed)
    return Quality(name, interval.value, interval.low, interval.high, len(left))


def quality(compared: Comparison) -> Quality:
    """Compare what both say of each text: its class, its labels, or its value."""
    left, right = compared.first_outputs()
    problem = problem_type(compared.settings.get("problem_type"), left.shape[-1])
    judge = {REGRESSION: _values_quality, MULTI_LABEL: _label_sets_quality}.get(str(problem), _classes_quality)
    return judge(left, right, None if compared.labels is None else np.asarray(compared.labels), compared.seed)


def _classes_quality(
    reference: NDArray[np.float64], actual: NDArray[np.float64], labels: NDArray[np.generic] | None, seed: int
) -> Quality:
    expected, found = reference.argmax(-1), actual.argmax(-1)
    finite = np.isfinite(actual).all(-1)
    same = ((expected == found) & finite).astype(np.float64)
    if labels is None or not (expected == labels).any():  # a reference that is never right is nothing to be as good as
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
    beside: dict[str, float] = {}
    if labels is not None:
        truth = np.asarray(labels, np.float64).reshape(len(labels), -1)
        for whose, values in (("", actual), ("reference's ", reference)):
            beside[f"{whose}Spearman correlation with the labels"] = mean_spearman(truth, values)
            beside[f"{whose}Pearson correlation with the labels"] = mean_pearson(truth, values)
    return score_quality(reference, actual, seed, beside)
