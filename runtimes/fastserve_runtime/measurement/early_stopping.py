"""MLPerf's early-stopping estimate of a latency percentile.

After n queries, the estimate of percentile p at confidence c is the t-th largest latency, where t is the largest
number of slower queries for which the percentile still holds with that confidence:
P(Binomial(n, 1 - p) <= t) <= 1 - c. It is an upper confidence bound, so it never flatters. At c = 0.99 the 90th
percentile needs at least 64 queries and the 99th 662.

Specification: MLPerf Inference rules, appendix "Early Stopping Criterion"; LoadGen's `early_stopping.cc`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

CONFIDENCE = 0.99


def percentile_estimate(latencies: Sequence[float], percentile: float, confidence: float = CONFIDENCE) -> float | None:
    """Estimate a latency percentile.

    Args:
        latencies: one per query, in any unit and order.
        percentile: between 0 and 1, such as 0.9.
        confidence: that the true percentile is not above the estimate.

    Returns:
        The estimate in the same unit, or None where there are too few queries.
    """
    allowed = slower_queries_allowed(len(latencies), percentile, confidence)
    return sorted(latencies)[-allowed] if allowed else None


def slower_queries_allowed(queries: int, percentile: float, confidence: float = CONFIDENCE) -> int:
    """Return the largest t >= 1 with P(Binomial(queries, 1 - percentile) <= t) <= 1 - confidence, else 0."""
    if not 0 < percentile < 1:
        raise ValueError(f"percentile must be between 0 and 1, not {percentile}")
    log_slow, log_fast = math.log1p(-percentile), math.log(percentile)
    cumulative, allowed = 0.0, 0
    for slower in range(queries + 1):
        log_ways = math.lgamma(queries + 1) - math.lgamma(slower + 1) - math.lgamma(queries - slower + 1)
        cumulative += math.exp(log_ways + slower * log_slow + (queries - slower) * log_fast)
        if cumulative > 1 - confidence:
            break
        allowed = slower
    return allowed


def queries_needed(percentile: float, confidence: float = CONFIDENCE) -> int:
    """Return the least number of queries for which `percentile_estimate` gives a value."""
    queries = 1
    while not slower_queries_allowed(queries, percentile, confidence):
        queries += 1
    return queries
