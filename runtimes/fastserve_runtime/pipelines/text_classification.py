"""Task `text-classification`: the label of a text, with a score for every label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastserve_runtime.errors import BundleError
from fastserve_runtime.manifest import Manifest
from fastserve_runtime.manifest_checks import check_outputs, not_of_task, tensors_named
from fastserve_runtime.metrics import Interval, bootstrap, ratio_interval, spearman
from fastserve_runtime.parsing import Fields
from fastserve_runtime.pipelines._text_pipeline import TextPipeline
from fastserve_runtime.quality import Quality
from fastserve_runtime.session import Session
from fastserve_runtime.text import LongText, TextPreprocessor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[np.generic]]

LOGITS = "logits"
OUTPUT_KINDS: Mapping[str, str] = {LOGITS: "logits"}
EXPECTED_ACCURACY = "expected accuracy ÷ reference's"
CORRELATION = "Spearman correlation"


@dataclass(frozen=True)
class Classification:
    """The best label of a text, its score, and every label's score.

    Scores are softmax probabilities; sigmoid ones where the model's labels do not exclude each other.
    """

    label: str
    score: float
    scores: Mapping[str, float]


class TextClassification(TextPipeline):
    """Called with a text, returns its `Classification`; with several, a list.

    A long text that is split gets the mean of its windows' scores, weighted by their tokens.
    """

    task = "text-classification"

    def __init__(
        self, session: Session, preprocessor: TextPreprocessor, labels: Sequence[str], *, is_multi_label: bool
    ) -> None:
        super().__init__(session, preprocessor)
        self.labels = tuple(labels)
        self.is_multi_label = is_multi_label

    def __call__(
        self, inputs: str | Sequence[str], *, long_text: LongText = "truncate"
    ) -> Classification | list[Classification]:
        """Classify one text or several; `long_text` says what becomes of those with too many tokens."""
        texts = [inputs] if isinstance(inputs, str) else list(inputs)
        windows, outputs = self._outputs(texts, long_text)
        logits = outputs[LOGITS].astype(np.float64)
        if logits.shape[-1] != len(self.labels):
            raise BundleError(f"The model scores {logits.shape[-1]} labels; its bundle names {len(self.labels)}.")
        scores = sigmoid(logits) if self.is_multi_label else softmax(logits)
        own = [windows.of_text(i) for i in range(len(texts))]
        results = [self._classified(windows.weights(rows) @ scores[rows]) for rows in own]
        return results[0] if isinstance(inputs, str) else results

    def _classified(self, scores: NDArray[np.float64]) -> Classification:
        best = int(scores.argmax())
        named = {label: float(score) for label, score in zip(self.labels, scores, strict=True)}
        return Classification(self.labels[best], float(scores[best]), named)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return probabilities over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each logit's own probability."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -500, 500))))


def open_pipeline(session: Session, preprocessor: TextPreprocessor, settings: Mapping[str, Any]) -> TextClassification:
    """Make the pipeline of this task; `settings` are the manifest's `task_settings` with `labels`."""
    fields = Fields(dict(settings), "task_settings")
    return TextClassification(
        session,
        preprocessor,
        fields.texts("labels"),
        is_multi_label=settings.get("problem_type") == "multi_label_classification",
    )


def check_manifest(manifest: Manifest) -> None:
    """Refuse a bundle whose model gives no logits, or not one for each label; see `manifest_checks`.

    Raises:
        BundleError: naming what it gives.
    """
    check_outputs(manifest, OUTPUT_KINDS)
    labels = Fields(dict(manifest.task_settings), "task_settings").texts("labels")
    for scores in tensors_named(manifest, LOGITS):
        if isinstance(scores.dims[-1], int) and scores.dims[-1] != len(labels):
            raise not_of_task(manifest, f"its model scores {scores.dims[-1]} labels and {len(labels)} are named")


def compared_values(outputs: Arrays, inputs: Arrays) -> dict[str, NDArray[np.generic]]:  # noqa: ARG001 -- as of others
    """Return what `task_metric` compares: the logits."""
    return dict(outputs)


def task_metric(reference: Arrays, actual: Arrays, inputs: Arrays, seed: int) -> Quality:  # noqa: ARG001 -- as of others
    """Compare accuracies without labels, by the reference's own probabilities.

    If these are calibrated, the class that a variant chooses is right as often as the reference says. So a flip between
    two classes that are as good as equal costs nothing, unlike in the agreement: quantization lowers that to 96 % where
    the accuracy stays. A single score has no classes; the metric is its rank correlation then.
    """
    left, right = (np.asarray(next(iter(a.values())), np.float64) for a in (reference, actual))
    if left.shape[-1] == 1:
        name, interval = CORRELATION, _correlation(left[:, 0], right[:, 0], seed)
    else:
        name = EXPECTED_ACCURACY
        chances, rows = softmax(left), np.arange(len(left))
        finite = np.asarray(np.isfinite(right).all(-1))
        found = np.where(finite, chances[rows, np.where(finite[:, None], right, 0.0).argmax(-1)], 0.0)
        interval = ratio_interval(found, chances.max(-1), seed=seed)
    return Quality(name, interval.value, interval.low, interval.high, len(left))


def _correlation(left: NDArray[np.float64], right: NDArray[np.float64], seed: int) -> Interval:
    if not np.isfinite(right).all():
        return Interval(0.0, 0.0, 0.0)
    value = spearman(left, right)
    return bootstrap(
        value, len(left), lambda rows: spearman(left[rows], right[rows]), seed=seed, resamples=1000, confidence=0.95
    )
