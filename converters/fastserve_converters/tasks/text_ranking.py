"""Task `text-ranking`: how well a document answers a query, read together (rerankers, cross-encoders)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastserve_converters.checkpoints.task import Pairs
from fastserve_converters.tasks.text_classification import LOGITS, outputs, reference_outputs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastserve_converters.checkpoints.checkpoint import Checkpoint
    from fastserve_converters.data import LabelKind, Sample
    from fastserve_runtime.preprocessors.text import Windows

__all__ = ["LOGITS", "outputs", "reference_outputs"]

HEADS: tuple[str, ...] = ()
# What architecture a config names does not tell a reranker from a classifier; marks of sentence-transformers do.
IN_ANY_MODEL = False
AUTO_CLASS = "AutoModelForSequenceClassification"
UNUSED: tuple[str, ...] = ()
HAS_LABELS = False
POOLS = False
MODEL = "encoder"
RANKS = True
PAIRS: Pairs = "always"


def settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what makes logits scores."""
    return {"activation": checkpoint.activation or "sigmoid"}


def label_kind(checkpoint: Checkpoint) -> LabelKind:
    """Return what labels are: how relevant a document is, 0 if not at all."""
    from fastserve_converters.data import Numbers

    return Numbers(minimum=0)


def known(samples: Sequence[Sample], windows: Windows) -> dict[str, NDArray[np.generic]]:
    """Return the number of each sample's query, its first text."""
    import numpy as np

    from fastserve_runtime.conformance.retrieval import QUERY

    numbers: dict[str, int] = {}
    return {QUERY: np.array([numbers.setdefault(sample.text, len(numbers)) for sample in samples], np.int32)}
