"""Task `text-ranking`: how well documents answer a query, and their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastserve_runtime.activations import activation_of, sigmoid
from fastserve_runtime.conformance.task_quality.text_ranking import task_metric
from fastserve_runtime.errors import BundleError, UsageError
from fastserve_runtime.pipelines._text_pipeline import TextPipeline
from fastserve_runtime.preprocessors.text import LongText, TextPreprocessor
from fastserve_runtime.preprocessors.text_pairs import Inputs
from fastserve_runtime.sessions.session import Session

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastserve_runtime.activations import Activation

__all__ = ["RankedDocument", "TextRanking", "task_metric"]

LOGITS = "logits"
OUTPUT_KINDS: Mapping[str, str] = {LOGITS: "logits"}
_USUAL_ACTIVATION = "sigmoid"


@dataclass(frozen=True)
class RankedDocument:
    """A document in its place.

    Attributes:
        index: which of the given documents it is, from 0.
        score: how well it answers the query; more is better.
        text: the document.
    """

    index: int
    score: float
    text: str


class TextRanking(TextPipeline):
    """Called with a pair of query and document, returns its score; with several, an array of scores, shape [n].

    `rank` orders documents by their scores.
    """

    task = "text-ranking"

    def __init__(self, session: Session, preprocessor: TextPreprocessor, activation: Activation = sigmoid) -> None:
        super().__init__(session, preprocessor)
        self._activation = activation

    def __call__(
        self, inputs: Inputs, *, long_text: LongText = "truncate", prompt: str | None = None
    ) -> float | NDArray[np.float64]:
        """Score one pair of query and document, or several; `prompt` names what is put before the query."""
        pairs, is_one = self._samples(inputs)
        _, outputs = self._outputs(pairs, long_text, prompt)
        logits = outputs[LOGITS].astype(np.float64)
        if logits.shape[-1] != 1:
            raise BundleError(f"The model gives {logits.shape[-1]} scores for a document; a ranking needs one.")
        scores = self._activation(logits)[:, 0]
        return float(scores[0]) if is_one else scores

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top_k: int | None = None,
        long_text: LongText = "truncate",
        prompt: str | None = None,
    ) -> list[RankedDocument]:
        """Return documents, the best first; of equal ones the earlier given.

        Args:
            query: what is looked for.
            documents: at least one.
            top_k: return so many of the best; all if left out.
            long_text: `truncate`, since pairs cannot be split.
            prompt: the name of the prompt that is put before the query; None: the default one, `""`: none.

        Raises:
            UsageError: there is no document, or `top_k` is below 1.
        """
        if isinstance(documents, str) or not documents:
            given = "one string" if isinstance(documents, str) else "none"
            raise UsageError(f"Documents are wanted; {given} was given.", "Give a list of at least one text.")
        if top_k is not None and top_k < 1:
            raise UsageError(f"The best {top_k} documents were asked for.", "Ask for at least 1.")
        scores = np.atleast_1d(self([(query, document) for document in documents], long_text=long_text, prompt=prompt))
        order = np.argsort(-scores, kind="stable")[:top_k]
        return [RankedDocument(int(i), float(scores[i]), documents[i]) for i in order]


def open_pipeline(session: Session, preprocessor: TextPreprocessor, settings: Mapping[str, Any]) -> TextRanking:
    """Make the pipeline of this task; `settings` are the manifest's `task_settings`."""
    return TextRanking(session, preprocessor, activation_of(settings, _USUAL_ACTIVATION))
