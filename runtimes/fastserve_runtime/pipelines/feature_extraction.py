"""Task `feature-extraction`: embeddings of sentences, or the hidden states of every token.

Quality is Spearman's correlation of the variant's pairwise similarities and the reference's: ranking by similarity is
what embeddings are used for. The cosine with the reference is shown beside it but flatters: 0.993 went with one
neighbour in ten being another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastserve_runtime.bundle.manifest import Manifest
from fastserve_runtime.bundle.task_checks import check_encoder
from fastserve_runtime.conformance.quality import Quality
from fastserve_runtime.pipelines._text_pipeline import TextPipeline
from fastserve_runtime.preprocessors.text import LongText, TextPreprocessor, Windows
from fastserve_runtime.preprocessors.text_samples import Inputs
from fastserve_runtime.sessions.session import Session

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastserve_runtime.conformance.comparison import Comparison

    Arrays = Mapping[str, NDArray[np.generic]]
    Embeddings = NDArray[np.float32]

SENTENCE_EMBEDDING = "sentence_embedding"
LAST_HIDDEN_STATE = "last_hidden_state"
OUTPUT_KINDS: Mapping[str, str] = {SENTENCE_EMBEDDING: "embedding", LAST_HIDDEN_STATE: "hidden"}
QUALITY_NAME = "similarity Spearman"


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
        import numpy as np

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
    import numpy as np

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
    import numpy as np

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


def check_manifest(manifest: Manifest) -> None:
    """Refuse a bundle whose model gives neither embeddings nor hidden states; see `task_checks`.

    Raises:
        BundleError: naming what it gives.
    """
    check_encoder(manifest, OUTPUT_KINDS)


def quality(compared: Comparison) -> Quality:
    """Compare embeddings; hidden states are averaged over their tokens first."""
    left, right = (compared_values(side, compared.inputs) for side in (compared.reference, compared.actual))
    return task_metric(replace(compared, reference=left, actual=right))


def compared_values(outputs: Arrays, inputs: Arrays) -> dict[str, NDArray[np.generic]]:
    """Return what `task_metric` compares: a vector for each text, shape [n, d]; of hidden states the mean."""
    return {name: _sentence_vectors(name, value, inputs) for name, value in outputs.items()}


def task_metric(compared: Comparison) -> Quality:
    """Compare the similarities of all pairs of texts, by what `compared_values` gives of both sides."""
    import numpy as np

    from fastserve_runtime.conformance.metrics import (
        Interval,
        neighbour_overlap,
        row_cosines,
        similarity_spearman_interval,
    )

    left, right = compared.first_outputs()
    # The similarities of a vector that is not finite count as 0, which may pass for a correlation.
    is_finite = bool(np.isfinite(right).all())
    interval = similarity_spearman_interval(left, right, seed=compared.seed) if is_finite else Interval(0.0, 0.0, 0.0)
    beside = {
        "mean cosine": float(row_cosines(left, right).mean()),
        "top-10 neighbour overlap": neighbour_overlap(left, right),
    }
    return Quality(QUALITY_NAME, interval.value, interval.low, interval.high, len(left), beside)


def _sentence_vectors(name: str, output: NDArray[np.generic], inputs: Arrays) -> NDArray[np.floating]:
    import numpy as np

    values = np.asarray(output, np.float64)
    if name != LAST_HIDDEN_STATE:
        return values
    mask = np.asarray(inputs["attention_mask"], np.float64)[..., None]
    return np.asarray((values * mask).sum(1) / mask.sum(1))
