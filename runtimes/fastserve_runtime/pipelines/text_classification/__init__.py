"""Task `text-classification`: the label of a text or of a pair of texts, its labels, or a value."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastserve_runtime.activations import activation_of, softmax
from fastserve_runtime.bundle.axes import CLASSES, dim_of
from fastserve_runtime.bundle.manifest import Manifest
from fastserve_runtime.bundle.task_checks import check_encoder, not_of_task, tensors_named
from fastserve_runtime.conformance.quality import Quality
from fastserve_runtime.errors import BundleError
from fastserve_runtime.parsing import Fields
from fastserve_runtime.pipelines._text_pipeline import TextPipeline
from fastserve_runtime.pipelines.text_classification.problem_types import (
    MULTI_LABEL,
    REGRESSION,
    USUAL_ACTIVATIONS,
    problem_type,
)
from fastserve_runtime.preprocessors.text import LongText, TextPreprocessor
from fastserve_runtime.results import Results, result_documents, result_table, shown_score
from fastserve_runtime.sessions.session import Session

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastserve_runtime.activations import Activation
    from fastserve_runtime.conformance.comparison import Comparison
    from fastserve_runtime.preprocessors.text_samples import Inputs

LOGITS = "logits"
OUTPUT_KINDS: Mapping[str, str] = {LOGITS: "logits"}
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
        logits = outputs[LOGITS].astype("float64")
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
        order = (-scores).argsort(kind="stable")
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


def check_manifest(manifest: Manifest) -> None:
    """Refuse a bundle whose model gives no logits, or not one for each label; see `task_checks`.

    Raises:
        BundleError: naming what it gives.
    """
    check_encoder(manifest, OUTPUT_KINDS)
    labels = Fields(dict(manifest.task_settings), "task_settings").texts("labels")
    for scores in tensors_named(manifest, LOGITS):
        classes = dim_of(scores, CLASSES)
        if isinstance(classes, int) and classes != len(labels):
            raise not_of_task(manifest, f"its model scores {classes} labels and {len(labels)} are named")


def quality(compared: Comparison) -> Quality:
    """Compare what both say of each text: its class, its labels, or its value."""
    from fastserve_runtime.pipelines.text_classification._quality import quality as judged

    return judged(compared)


def task_metric(compared: Comparison) -> Quality:
    """Compare accuracies without labels, by the reference's own probabilities."""
    from fastserve_runtime.pipelines.text_classification._quality import task_metric as judged

    return judged(compared)


def run_arguments(pipeline: TextClassification, arguments: Namespace) -> Results:
    """Classify the texts of a command line, or its pairs; its flags are those of every model of texts.

    Raises:
        UsageError: there is no text, or they are not given as the model takes them.
    """
    from fastserve_runtime.pipelines._text_run import given_samples, text_options

    samples = given_samples(arguments)
    found: Any = pipeline(samples, **text_options(arguments))
    documents = result_documents(samples, found)
    outputs = [document["output"] for document in documents]
    if pipeline.problem_type == REGRESSION:
        names = tuple(outputs[0]["scores"]) if len(outputs[0]["scores"]) > 1 else ("value",)
        cells = [tuple(map(shown_score, o["scores"].values())) for o in outputs]
        return Results(documents, (result_table(documents, names, cells, names),))
    if pipeline.problem_type == MULTI_LABEL:
        cells = [(", ".join(f"{label} {o['scores'][label]:.3f}" for label in o["labels"]) or "none",) for o in outputs]
        return Results(documents, (result_table(documents, ("labels",), cells),))
    cells = [(o["label"], f"{o['score']:.3f}") for o in outputs]
    return Results(documents, (result_table(documents, ("label", "score"), cells, ("score",)),))
