"""Task `text-ranking`: how well a document answers a query, read together (rerankers, cross-encoders).

Quality is, without labels, Spearman's correlation between the variant's and the reference's scores, with nDCG@10
against the reference's order beside it; with labels (how relevant a document is) the variant's nDCG@10 divided by the
reference's, with both and the MRR@10 beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastserve_converters.checkpoints.task import Pairs
from fastserve_converters.tasks.text_classification import LOGITS, outputs, reference_outputs
from fastserve_runtime.conformance.quality import Quality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastserve_converters.checkpoints.checkpoint import Checkpoint
    from fastserve_converters.data import LabelKind, Sample
    from fastserve_runtime.conformance.comparison import Comparison
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

NDCG_RATIO = "nDCG@10 ÷ reference's"


def settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what makes logits scores."""
    return {"activation": checkpoint.activation or "sigmoid"}


def label_kind(checkpoint: Checkpoint) -> LabelKind:
    """Return what labels are: how relevant a document is, 0 if not at all."""
    from fastserve_converters.data import Numbers

    return Numbers(least=0)


def known(samples: Sequence[Sample], windows: Windows) -> dict[str, NDArray[np.generic]]:
    """Return the number of each sample's query, its first text."""
    import numpy as np

    from fastserve_runtime.conformance.retrieval import QUERY

    numbers: dict[str, int] = {}
    return {QUERY: np.array([numbers.setdefault(sample.text, len(numbers)) for sample in samples], np.int32)}


def quality(compared: Comparison) -> Quality:
    """Compare scores, or with labels the rankings of each query's documents."""
    import numpy as np

    from fastserve_runtime.conformance.metrics import ratio_interval
    from fastserve_runtime.conformance.retrieval import QUERY, counted, ndcg_by_query, reciprocal_ranks
    from fastserve_runtime.pipelines.text_ranking import task_metric

    by_scores = task_metric(compared)
    queries = compared.inputs.get(QUERY)
    if compared.labels is None or queries is None:
        return by_scores
    relevance = np.asarray(compared.labels, np.float64)
    if not any(True for _ in counted(relevance, queries)):
        return by_scores
    left, right = (scores[:, 0] for scores in compared.first_outputs())
    wanted, found = (ndcg_by_query(relevance, scores, queries) for scores in (left, right))
    interval = ratio_interval(found, wanted, seed=compared.seed)
    beside = {
        "nDCG@10": float(found.mean()),
        "reference's nDCG@10": float(wanted.mean()),
        "MRR@10": float(reciprocal_ranks(relevance, right, queries).mean()),
        "reference's MRR@10": float(reciprocal_ranks(relevance, left, queries).mean()),
        by_scores.name: by_scores.value,
    }
    return Quality(NDCG_RATIO, interval.value, interval.low, interval.high, len(found), beside)
