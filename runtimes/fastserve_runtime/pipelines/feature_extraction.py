"""Task `feature-extraction`: embeddings of sentences, or the hidden states of every token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastserve_runtime.conformance.task_quality.feature_extraction import (
    LAST_HIDDEN_STATE,
    compared_values,
    task_metric,
)
from fastserve_runtime.pipelines._text_pipeline import TextPipeline
from fastserve_runtime.preprocessors.text import LongText, TextPreprocessor, Windows
from fastserve_runtime.preprocessors.text_pairs import Inputs
from fastserve_runtime.sessions.session import Session

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[np.generic]]
    Embeddings = NDArray[np.float32]

__all__ = ["FeatureExtraction", "compared_values", "task_metric"]

SENTENCE_EMBEDDING = "sentence_embedding"
OUTPUT_KINDS: Mapping[str, str] = {SENTENCE_EMBEDDING: "embedding", LAST_HIDDEN_STATE: "hidden"}


class FeatureExtraction(TextPipeline):
    """Called with a text, returns its embedding, shape [d]; with several, shape [n, d].

    A model without pooling gives hidden states instead: a list of arrays of shape [tokens, d], without padding.

    A long text that is split gets the mean of its windows' embeddings, weighted by their tokens, of length 1 again
    where the model's are; its hidden states are those of all windows one after another, with the special tokens at the
    text's beginning and end only.
    """

    task = "feature-extraction"

    def __call__(
        self, inputs: Inputs, *, long_text: LongText = "truncate", prompt: str | None = None
    ) -> Embeddings | list[Embeddings]:
        """Embed one text or several.

        Args:
            inputs: the texts.
            long_text: what becomes of those with too many tokens.
            prompt: the name of the prompt that is put before each; None: the default one, `""`: none.
        """
        texts, is_one = self._samples(inputs)
        windows, outputs = self._outputs(texts, long_text, prompt)
        if SENTENCE_EMBEDDING in outputs:
            rows = outputs[SENTENCE_EMBEDDING].astype(np.float32, copy=False)
            embeddings = np.stack([mean_embedding(rows, windows, i) for i in range(len(texts))])
            return embeddings[0] if is_one else embeddings
        hidden = outputs[LAST_HIDDEN_STATE].astype(np.float32, copy=False)
        states = [joined_states(hidden, windows, i) for i in range(len(texts))]
        return states[0] if is_one else states


def mean_embedding(embeddings: Embeddings, windows: Windows, text: int) -> Embeddings:
    """Return a text's embedding from those of its windows, shape [windows, d] → [d]."""
    rows = windows.of_text(text)
    own = embeddings[rows]
    if len(rows) == 1:
        return np.asarray(own[0])
    mean = windows.weights(rows) @ own
    are_unit = np.allclose(np.linalg.norm(own, axis=1), 1, atol=1e-2)
    length = np.linalg.norm(mean)
    return np.asarray(mean / length if are_unit and length > 0 else mean, np.float32)


def joined_states(hidden: Embeddings, windows: Windows, text: int) -> Embeddings:
    """Return a text's hidden states from those of its windows, shape [windows, length, d] → [tokens, d]."""
    rows = windows.of_text(text)
    mask = np.asarray(windows.tensors["attention_mask"], np.float32) > 0
    parts = []
    for position, row in enumerate(rows):
        keep = mask[row].copy()
        inner = np.flatnonzero(keep & ~windows.special[row])
        if len(rows) > 1 and inner.size:
            if position > 0:
                keep[: inner[0]] = False
            if position < len(rows) - 1:
                keep[inner[-1] + 1 :] = False
        parts.append(hidden[row][keep])
    return np.concatenate(parts)


def open_pipeline(
    session: Session,
    preprocessor: TextPreprocessor,
    settings: Mapping[str, Any],  # noqa: ARG001 -- the same for every task
) -> FeatureExtraction:
    """Make the pipeline of this task."""
    return FeatureExtraction(session, preprocessor)
