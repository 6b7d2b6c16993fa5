"""Latency of one call, measured so that it can be trusted, or marked where it cannot."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fastserve_runtime.measurement.early_stopping import percentile_estimate, queries_needed

WARM_UP_SECONDS = 0.5
WARM_UP_CALLS = 5
MIN_SECONDS = 3.0
MAX_SECONDS = 15.0
MAX_QUERIES = 20_000

_TAIL_RATIO = 1.5
_DRIFT_RATIO = 1.2
_BUSY_SHARE = 0.85


@dataclass(frozen=True)
class Latency:
    """Latency in seconds of single calls, one at a time (MLPerf's single-stream scenario).

    Attributes:
        queries: how many calls were timed after warm-up.
        p50: MLPerf early-stopping estimate; so are p90 and p99. None where there were too few queries.
        warnings: why the figures are not trustworthy; empty where they are.
    """

    queries: int
    mean: float
    minimum: float
    maximum: float
    p50: float | None
    p90: float | None
    p99: float | None
    warnings: tuple[str, ...]

    @property
    def is_trustworthy(self) -> bool:
        """Whether the run was steady enough to quote."""
        return not self.warnings

    @property
    def trusted_p90(self) -> float | None:
        """The p90 estimate where the run was steady, else None."""
        return self.p90 if self.is_trustworthy else None

    @property
    def upper_bound(self) -> float:
        """The p90 estimate; the longest call that was seen where that cannot be trusted."""
        return self.maximum if self.trusted_p90 is None else self.trusted_p90


def measure_latency(
    call: Callable[[int], object],
    *,
    min_seconds: float = MIN_SECONDS,
    max_seconds: float = MAX_SECONDS,
    clock: Callable[[], float] = time.perf_counter,
    cpu_clock: Callable[[], float] = time.process_time,
) -> Latency:
    """Time a call again and again.

    After warm-up, at least the 64 queries that the p90 estimate needs are timed, for at least `min_seconds` and at
    most `max_seconds`. A model that reaches 662 queries in that time gets a p99 too; one too slow for 64 gets none of
    the estimates that need them.

    Args:
        call: runs the model once; gets the number of the call, to take another input each time.
        min_seconds: go on at least so long.
        max_seconds: stop after this.
        clock: wall-clock seconds.
        cpu_clock: processor seconds of this process.
    """
    started = clock()
    index = 0
    while index < WARM_UP_CALLS or clock() - started < min(WARM_UP_SECONDS, max_seconds / 10):
        call(index)
        index += 1
        if clock() - started > max_seconds / 3:
            break
    latencies: list[float] = []
    needed = queries_needed(0.9)
    begun, cpu_begun = clock(), cpu_clock()
    now = begun
    while True:
        call(index)
        index += 1
        before, now = now, clock()
        latencies.append(now - before)
        elapsed = now - begun
        is_enough = len(latencies) >= needed and elapsed >= min_seconds
        if is_enough or elapsed >= max_seconds or len(latencies) >= MAX_QUERIES:
            break
    busy = (cpu_clock() - cpu_begun) / max(now - begun, 1e-9)
    return summarize(latencies, busy_share=busy)


def summarize(latencies: Sequence[float], *, busy_share: float = 1.0) -> Latency:
    """Turn single latencies, in order, into a `Latency`.

    Args:
        latencies: seconds, at least one.
        busy_share: processor time ÷ wall time of the run.
    """
    p50, p90, p99 = (percentile_estimate(latencies, p) for p in (0.5, 0.9, 0.99))
    return Latency(
        queries=len(latencies),
        mean=statistics.fmean(latencies),
        minimum=min(latencies),
        maximum=max(latencies),
        p50=p50,
        p90=p90,
        p99=p99,
        warnings=tuple(_warnings(latencies, p90, busy_share)),
    )


def latency_document(latency: Latency) -> dict[str, Any]:
    """Return a latency as JSON, seconds."""
    return {**asdict(latency), "warnings": list(latency.warnings), "trustworthy": latency.is_trustworthy}


def _warnings(latencies: Sequence[float], p90: float | None, busy_share: float) -> list[str]:
    warnings = []
    median = statistics.median(latencies)
    if p90 is None:
        warnings.append(f"only {len(latencies)} queries ran in the time; the p90 estimate needs {queries_needed(0.9)}")
    elif p90 > _TAIL_RATIO * median:
        warnings.append(f"p90 is {p90 / max(median, 1e-12):.1f} times the median")
    third = len(latencies) // 3
    if third:
        first, last = statistics.median(latencies[:third]), statistics.median(latencies[-third:])
        drift = max(first, last) / max(min(first, last), 1e-12)
        if drift > _DRIFT_RATIO:
            warnings.append(f"the first and last thirds differ by {drift:.1f} times")
    if busy_share < _BUSY_SHARE:
        warnings.append(f"the process had a processor for only {busy_share:.0%} of the time")
    return warnings
