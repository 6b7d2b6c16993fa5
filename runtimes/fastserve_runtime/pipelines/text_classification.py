"""Task `text-classification`: the label of a text, with a score for every label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastserve_runtime.errors import BundleError
from fastserve_runtime.parsing import Fields
from fastserve_runtime.pipelines._text_pipeline import TextPipeline
from fastserve_runtime.session import Session
from fastserve_runtime.text import LongText, TextPreprocessor

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOGITS = "logits"
OUTPUT_KINDS: Mapping[str, str] = {LOGITS: "logits"}


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
