"""Quality of `text-generation`: the reference's perplexity on held-out text divided by the variant's.

It is 1 where nothing is lost. Beside it stand both perplexities, the Kullback-Leibler divergence from the reference's
distribution, and how often the likeliest token is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastserve_runtime.conformance.metrics import bootstrap
from fastserve_runtime.conformance.quality import Quality
from fastserve_runtime.generation.traces import LOG_PROBABILITIES, NEXT_TOKEN, SCORED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastserve_runtime.conformance.comparison import Comparison

PERPLEXITY_RATIO = "reference's perplexity ÷ variant's"
_BLOCK = 32
"""Neighbouring tokens are not independent, so the bootstrap draws blocks of them."""


def quality(compared: Comparison) -> Quality:
    """Compare both models' log-probabilities of the next tokens of the evaluation traces; see `Task.quality`."""
    scored = np.asarray(compared.inputs[SCORED], bool)
    both = (compared.reference, compared.actual)
    left, right = (np.asarray(a[NEXT_TOKEN], np.float64)[scored][:, 0] for a in both)
    distributions = [np.asarray(a[LOG_PROBABILITIES], np.float64)[scored] for a in both]
    gains = [block.sum() for block in _blocks(right - left)]
    sizes = [block.size for block in _blocks(left)]

    def ratio(rows: NDArray[np.int64]) -> float:
        return float(np.exp(np.take(gains, rows).sum() / np.take(sizes, rows).sum()))

    value = ratio(np.arange(len(gains)))
    found = bootstrap(value, len(gains), ratio, seed=compared.seed, resamples=1000, confidence=0.95)
    beside = {
        "perplexity": float(np.exp(-right.mean())),
        "reference's perplexity": float(np.exp(-left.mean())),
        "KL divergence (nats)": float(divergence(*distributions).mean()),
        "top-1 agreement": float(np.mean(distributions[0].argmax(-1) == distributions[1].argmax(-1))),
    }
    return Quality(PERPLEXITY_RATIO, found.value, found.low, found.high, int(scored.sum()), beside)


def divergence(reference: NDArray[np.float64], actual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Kullback-Leibler divergence of distributions of which the likeliest tokens are known, in nats.

    All other tokens count as one, so it is a lower bound of the divergence over the whole vocabulary.

    Args:
        reference: log-probabilities of candidates, and of one more token that is not looked at, shape [n, candidates
            + 1].
        actual: likewise, of the same candidates.
    """
    p, q = (np.exp(a[:, :-1]) for a in (reference, actual))
    rest_p, rest_q = (np.clip(1 - a.sum(-1), 1e-12, None) for a in (p, q))
    known = (p * (reference[:, :-1] - actual[:, :-1])).sum(-1)
    return np.asarray(known + rest_p * np.log(rest_p / rest_q))


def _blocks(values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    return np.array_split(values, max(1, len(values) // _BLOCK))
