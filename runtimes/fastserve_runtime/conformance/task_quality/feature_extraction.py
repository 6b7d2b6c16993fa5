"""Quality of `feature-extraction`: Spearman's correlation of the variant's pairwise similarities and the reference's.

Ranking by similarity is what embeddings are used for. The cosine with the reference is shown beside it but flatters:
0.993 went with one neighbour in ten being another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fastserve_runtime.conformance.metrics import Interval, neighbour_overlap, row_cosines, similarity_spearman_interval
from fastserve_runtime.conformance.quality import Quality

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastserve_runtime.conformance.comparison import Comparison

    Arrays = Mapping[str, NDArray[np.generic]]

LAST_HIDDEN_STATE = "last_hidden_state"
QUALITY_NAME = "similarity Spearman"


def quality(compared: Comparison) -> Quality:
    """Compare embeddings; hidden states are averaged over their tokens first."""
    left, right = (compared_values(side, compared.inputs) for side in (compared.reference, compared.actual))
    return task_metric(replace(compared, reference=left, actual=right))


def compared_values(outputs: Arrays, inputs: Arrays) -> dict[str, NDArray[np.generic]]:
    """Return what `task_metric` compares: a vector for each text, shape [n, d]; of hidden states the mean."""
    return {name: _sentence_vectors(name, value, inputs) for name, value in outputs.items()}


def task_metric(compared: Comparison) -> Quality:
    """Compare the similarities of all pairs of texts, by what `compared_values` gives of both sides."""
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
    values = np.asarray(output, np.float64)
    if name != LAST_HIDDEN_STATE:
        return values
    mask = np.asarray(inputs["attention_mask"], np.float64)[..., None]
    return np.asarray((values * mask).sum(1) / mask.sum(1))
