"""Which variants fit a budget, which is best, and what binds when none fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fastserve.budget import Budget, Limit
from fastserve.candidate import Candidate

_QUALITY_RESOLUTION = 1e-6

KEEP = ("best", "formats", "all")


def judge(candidates: Sequence[Candidate], budget: Budget) -> list[Candidate]:
    """Return the candidates with their breaches of the budget and their place on the Pareto front."""
    judged = [
        c if c.failure is not None else replace(c, breaches=budget.breaches(c.figures(), c.doubts()))
        for c in candidates
    ]
    front = pareto_front(judged)
    return [replace(c, on_front=c.id in front) for c in judged]


def rank(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates that fit and run on this machine, best first.

    The best has the highest quality, where those whose intervals overlap the highest one's count as equal; of equals
    the fastest; of those the smallest.
    """
    left = [c for c in candidates if c.fits and c.target is None]
    ranked = []
    while left:
        leader = max(left, key=_quality)
        # A bit-exact variant's interval is a point; what the tenth digit says must not decide.
        least = leader.quality.low - _QUALITY_RESOLUTION if leader.quality else 0.0
        equals = [c for c in left if c is leader or (c.quality is not None and c.quality.high >= least)]
        best = min(equals, key=lambda c: (_latency(c), c.size or 0, c.id))
        ranked.append(best)
        left.remove(best)
    return ranked


def shipped(ranked: Sequence[Candidate], keep: str) -> list[Candidate]:
    """Return which ranked candidates go into the bundle: the best, the best of each format, or all."""
    if keep == "best":
        return list(ranked[:1])
    if keep == "all":
        return list(ranked)
    seen: set[str] = set()
    return [c for c in ranked if not (c.format in seen or seen.add(c.format))]  # type: ignore[func-returns-value]


def shipped_for_targets(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates made for a target that go into the bundle beside the portable ones: all that fit."""
    return [c for c in candidates if c.fits and c.target is not None]


def pareto_front(candidates: Sequence[Candidate]) -> set[str]:
    """Return the ids of candidates that no other one equals or beats in quality, latency, size and memory at once."""
    measured = [c for c in candidates if c.failure is None and c.measurement is not None]
    return {c.id for c in measured if not any(_dominates(other, c) for other in measured if other is not c)}


@dataclass(frozen=True)
class NothingFitsReport:
    """Why no candidate fits.

    Attributes:
        binding: the limits of which each one, dropped alone, would let a candidate fit; empty where several must go.
        nearest: candidates that came nearest, with the sum of the shares by which they break limits.
    """

    binding: tuple[Limit, ...]
    nearest: tuple[tuple[Candidate, float], ...]


def explain_nothing_fits(candidates: Sequence[Candidate], budget: Budget) -> NothingFitsReport:
    """Find the limits that bind and the nearest misses."""
    made = [c for c in candidates if c.failure is None and c.measurement is not None]
    sole = [c.breaches[0].limit for c in made if len(c.breaches) == 1]
    binding = tuple(limit for limit in budget.limits if limit in sole)
    misses = sorted(((c, _total_excess(c)) for c in made), key=lambda pair: pair[1])
    return NothingFitsReport(binding, tuple(misses[:3]))


def _quality(candidate: Candidate) -> float:
    return candidate.quality.value if candidate.quality else 0.0


def _latency(candidate: Candidate) -> float:
    return candidate.p90 if candidate.p90 is not None else float("inf")


def _total_excess(candidate: Candidate) -> float:
    # A figure that is missing is worse than any that is known.
    return sum(1e3 if b.figure is None else b.limit.excess(b.figure) for b in candidate.breaches)


def _dominates(other: Candidate, candidate: Candidate) -> bool:
    # Quality to the four digits that the table shows: the exporters' fp32 differ in the tenth.
    pairs = [(-round(_quality(other), 4), -round(_quality(candidate), 4))]
    pairs.append((_latency(other), _latency(candidate)))
    pairs.append((other.size or 0, candidate.size or 0))
    if other.peak_memory is not None and candidate.peak_memory is not None:
        pairs.append((other.peak_memory, candidate.peak_memory))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
