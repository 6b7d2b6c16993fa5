"""Task `feature-extraction`: embeddings of sentences, or the hidden states of every token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastserve_runtime.pipelines._text_pipeline import TextPipeline
from fastserve_runtime.session import Session
from fastserve_runtime.text import TextPreprocessor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Embeddings = NDArray[np.float32]

SENTENCE_EMBEDDING = "sentence_embedding"
LAST_HIDDEN_STATE = "last_hidden_state"
OUTPUT_KINDS: Mapping[str, str] = {SENTENCE_EMBEDDING: "embedding", LAST_HIDDEN_STATE: "hidden"}


class FeatureExtraction(TextPipeline):
    """Called with a text, returns its embedding, shape [d]; with several, shape [n, d].

    A model without pooling gives hidden states instead: a list of arrays of shape [tokens, d], without padding.
    """

    task = "feature-extraction"

    def __call__(self, inputs: str | Sequence[str]) -> Embeddings | list[Embeddings]:
        """Embed one text or several."""
        texts = [inputs] if isinstance(inputs, str) else list(inputs)
        tensors, outputs = self._outputs(texts)
        if SENTENCE_EMBEDDING in outputs:
            embeddings = outputs[SENTENCE_EMBEDDING].astype(np.float32, copy=False)
            return embeddings[0] if isinstance(inputs, str) else embeddings
        hidden = outputs[LAST_HIDDEN_STATE].astype(np.float32, copy=False)
        states = [row[mask > 0] for row, mask in zip(hidden, tensors["attention_mask"], strict=True)]
        return states[0] if isinstance(inputs, str) else states


def open_pipeline(
    session: Session,
    preprocessor: TextPreprocessor,
    settings: Mapping[str, Any],  # noqa: ARG001 -- the same for every task
) -> FeatureExtraction:
    """Make the pipeline of this task."""
    return FeatureExtraction(session, preprocessor)
