"""Task `text-classification`: the label of a text or of a pair of texts, its labels, or a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastserve_runtime.activations import activation_of, softmax
from fastserve_runtime.conformance.task_quality.text_classification import (
    MULTI_LABEL,
    REGRESSION,
    problem_type,
    task_metric,
)
from fastserve_runtime.errors import BundleError
from fastserve_runtime.parsing import Fields
from fastserve_runtime.pipelines._text_pipeline import TextPipeline
from fastserve_runtime.preprocessors.text import LongText, TextPreprocessor
from fastserve_runtime.sessions.session import Session

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastserve_runtime.activations import Activation
    from fastserve_runtime.preprocessors.text_pairs import Inputs

__all__ = ["Classification", "MultiLabelClassification", "TextClassification", "task_metric"]

LOGITS = "logits"
OUTPUT_KINDS: Mapping[str, str] = {LOGITS: "logits"}
USUAL_ACTIVATIONS: Mapping[str, str] = {REGRESSION: "identity", MULTI_LABEL: "sigmoid"}
THRESHOLD = 0.5
"""Labels with this score or more are given, where several may be right."""


@dataclass(frozen=True)
class Classification:
    """The best label of a text, its score, and every label's score.

    Scores are softmax probabilities; of a regression the values that the model gives, as they are.
    """

    label: str
    score: float
    scores: Mapping[str, float]


@dataclass(frozen=True)
class MultiLabelClassification(Classification):
    """Where several labels may be right: those whose own probability is at least 0.5, the likeliest first.

    `label` and `score` are the likeliest one's, whether it is that likely or not.
    """

    labels: tuple[str, ...]


class TextClassification(TextPipeline):
    """Called with a text, or a pair where the model takes pairs, returns its `Classification`; with several, a list.

    A long text that is split gets the mean of its windows' scores, weighted by their tokens.

    Attributes:
        labels: the names of the model's outputs.
        problem_type: `regression`, `multi_label_classification`, or what means labels that exclude each other.
    """

    task = "text-classification"

    def __init__(
        self,
        session: Session,
        preprocessor: TextPreprocessor,
        labels: Sequence[str],
        *,
        problem_type: str | None = None,
        activation: Activation = softmax,
    ) -> None:
        super().__init__(session, preprocessor)
        self.labels = tuple(labels)
        self.problem_type = problem_type
        self._activation = activation

    def __call__(
        self, inputs: Inputs, *, long_text: LongText = "truncate", prompt: str | None = None
    ) -> Classification | list[Classification]:
        """Classify one text (or pair) or several.

        Args:
            inputs: the texts or pairs.
            long_text: what becomes of those with too many tokens.
            prompt: the name of the prompt that is put before each; None: the default one, `""`: none.
        """
        texts, is_one = self._samples(inputs)
        windows, outputs = self._outputs(texts, long_text, prompt)
        logits = outputs[LOGITS].astype(np.float64)
        if logits.shape[-1] != len(self.labels):
            raise BundleError(f"The model scores {logits.shape[-1]} labels; its bundle names {len(self.labels)}.")
        scores = self._activation(logits)
        own = [windows.of_text(i) for i in range(len(texts))]
        results = [self._classified(windows.weights(rows) @ scores[rows]) for rows in own]
        return results[0] if is_one else results

    def _classified(self, scores: NDArray[np.float64]) -> Classification:
        best = int(scores.argmax())
        named = {label: float(score) for label, score in zip(self.labels, scores, strict=True)}
        if self.problem_type != MULTI_LABEL:
            return Classification(self.labels[best], float(scores[best]), named)
        order = np.argsort(-scores, kind="stable")
        likely = tuple(self.labels[i] for i in order if scores[i] >= THRESHOLD)
        return MultiLabelClassification(self.labels[best], float(scores[best]), named, likely)


def open_pipeline(session: Session, preprocessor: TextPreprocessor, settings: Mapping[str, Any]) -> TextClassification:
    """Make the pipeline of this task; `settings` are the manifest's `task_settings` with `labels`."""
    fields = Fields(dict(settings), "task_settings")
    labels = fields.texts("labels")
    problem = problem_type(settings.get("problem_type"), len(labels))
    return TextClassification(
        session,
        preprocessor,
        labels,
        problem_type=problem,
        activation=activation_of(settings, USUAL_ACTIVATIONS.get(str(problem), "softmax")),
    )
