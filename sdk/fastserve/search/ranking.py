"""Which variants fit a budget, which is best, and what binds when none fits.

What noise can turn round does not decide: qualities count to the digits that are shown, and latencies whose measured
spreads overlap are the same. Both are told by comparing all with one, the best in that respect, so that no three
variants can each be better than the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fastserve.search.budget import Budget, Limit
from fastserve.search.candidate import Candidate

QUALITY_DIGITS = 4
"""So many are shown, and so many count: the exporters' fp32 differ in the tenth."""
_MEMORY_RESOLUTION = 1_000_000
"""Bytes: what a process takes at most differs by some hundred kB from run to run."""

KEEP = ("best", "formats", "all")


def judge(candidates: Sequence[Candidate], budget: Budget) -> list[Candidate]:
    """Return the candidates with their breaches of the budget and their place on the Pareto front."""
    judged = [
        c if c.failure is not None else replace(c, breaches=budget.breaches(c.figures(), c.warnings()))
        for c in candidates
    ]
    front = pareto_front(judged)
    return [replace(c, on_front=c.id in front) for c in judged]


@dataclass(frozen=True)
class Choice:
    """Which variant is the best of several, and how that was found.

    Attributes:
        best: it.
        leader: the one of the highest quality.
        equally_good: those whose quality counts as the leader's, the best among them.
        equally_fast: those of them whose latency counts as the fastest one's, the best among them.
    """

    best: Candidate
    leader: Candidate
    equally_good: tuple[Candidate, ...]
    equally_fast: tuple[Candidate, ...]


def choose(candidates: Sequence[Candidate]) -> Choice:
    """Find the best of at least one candidate that fits; their order does not matter.

    The highest quality leads, and those whose interval reaches the leader's count as equal. Of these, those whose
    latency's spread overlaps with the fastest one's count as equally fast. Of these the smallest is the best.
    """
    leader = min(candidates, key=lambda c: (-_quality(c), -_low(c), c.id))
    good = [c for c in candidates if c is leader or (c.quality is not None and _shown(c.quality.high) >= _low(leader))]
    levels = speed_levels(good)
    fast = [c for c in good if levels[c.id] == 0]
    best = min(fast, key=lambda c: (c.size or 0, c.id))
    return Choice(best, leader, tuple(good), tuple(fast))


def rank(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates that fit and run on this machine, best first; the next one is the best of the others."""
    left = [c for c in candidates if c.fits and c.target is None]
    ranked = []
    while left:
        ranked.append(choose(left).best)
        left.remove(ranked[-1])
    return ranked


def speed_levels(candidates: Sequence[Candidate]) -> dict[str, int]:
    """Return, by id, how many levels of speed are above each.

    The fastest has level 0, with all whose spread reaches its own; the fastest of the others has level 1, and so on.
    The last level is that of those whose latency is not known.
    """
    left = sorted(candidates, key=lambda c: (_latency(c), c.id))
    levels: dict[str, int] = {}
    level = 0
    while left:
        fastest = left[0].latency_spread
        # Unknown ones come last, and nothing tells them apart.
        together = [c for c in left if fastest is None or (c.latency_spread and c.latency_spread[0] <= fastest[1])]
        levels |= {c.id: level for c in together}
        left = [c for c in left if c.id not in levels]
        level += 1
    return levels


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
    """Return the ids of candidates that no other one equals or beats in quality, speed, size and memory at once."""
    measured = [c for c in candidates if c.failure is None and c.measurement is not None]
    levels = speed_levels(measured)
    return {c.id for c in measured if not any(_dominates(other, c, levels) for other in measured if other is not c)}


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


def _shown(quality: float) -> float:
    return round(quality, QUALITY_DIGITS)


def _quality(candidate: Candidate) -> float:
    return _shown(candidate.quality.value) if candidate.quality else 0.0


def _low(candidate: Candidate) -> float:
    return _shown(candidate.quality.low) if candidate.quality else 0.0


def _latency(candidate: Candidate) -> float:
    return candidate.p90 if candidate.p90 is not None else float("inf")


def _total_excess(candidate: Candidate) -> float:
    # A figure that is missing is worse than any that is known.
    return sum(1e3 if b.figure is None else b.limit.excess(b.figure) for b in candidate.breaches)


def _dominates(other: Candidate, candidate: Candidate, levels: Mapping[str, int]) -> bool:
    pairs: list[tuple[float, float]] = [(-_quality(other), -_quality(candidate))]
    pairs.append((levels[other.id], levels[candidate.id]))
    pairs.append((other.size or 0, candidate.size or 0))
    if other.peak_memory is not None and candidate.peak_memory is not None:
        pairs.append((_shown_memory(other.peak_memory), _shown_memory(candidate.peak_memory)))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _shown_memory(peak: int) -> int:
    return round(peak / _MEMORY_RESOLUTION)
