"""Why the chosen variant was chosen, in words."""

from __future__ import annotations

from collections.abc import Sequence

from fastserve.search.candidate import Candidate
from fastserve.search.ranking import QUALITY_DIGITS, Choice
from fastserve_runtime.quantities import format_size, format_time

_MAX_NAMED = 4


def choice_reason(choice: Choice, fitting: int) -> str:
    """Return a sentence that tells what decided.

    Args:
        choice: how the best was found.
        fitting: how many variants fit.
    """
    best = choice.best
    if fitting == 1:
        return f"{best.id} was chosen: no other variant fits."
    parts = [_of_quality(choice)]
    if len(choice.equally_good) > 1:
        parts.append(_of_speed(choice))
    if len(choice.equally_fast) > 1:
        parts.append(_of_size(choice))
    return f"{best.id} was chosen: {'; '.join(parts)}."


def _of_quality(choice: Choice) -> str:
    best, leader = choice.best, choice.leader
    others = [c for c in choice.equally_good if c is not best]
    if not others:
        return f"its quality {_quality(best)} is the highest, and no other one's interval reaches {_low(best)}"
    if best is leader:
        named = f"{_named(others)} may be as good (interval from {_low(best)})"
        return f"its quality {_quality(best)} is the highest, and {named}"
    return (
        f"its quality {_quality(best)} may be as good as the highest, {_quality(leader)} of {leader.id}: its interval "
        f"reaches {_low(leader)}"
    )


def _of_speed(choice: Choice) -> str:
    best = choice.best
    spread = best.latency_spread
    if spread is None:
        return "of these none has a latency that can be trusted"
    others = [c for c in choice.equally_fast if c is not best]
    own = f"{format_time(spread[0])} to {format_time(spread[1])}"
    if not others:
        untrusted = [c for c in choice.equally_good if c.latency_spread is None]
        if untrusted:
            return (
                f"of these whose latency can be trusted it is the fastest ({own}); that of {_named(untrusted)} cannot"
            )
        return f"of these it is the fastest beyond the measured spread ({own})"
    theirs = ", ".join(
        f"{c.id} {format_time(s[0])} to {format_time(s[1])}" for c in others[:_MAX_NAMED] if (s := c.latency_spread)
    )
    return f"of these it is as fast as the fastest within the measured spread ({own}; {theirs})"


def _of_size(choice: Choice) -> str:
    best = choice.best
    sizes = sorted({c.size or 0 for c in choice.equally_fast})
    if len(sizes) == 1:
        return "all of these are of one size, so the first by name was taken"
    return f"of these it is the smallest ({format_size(best.size or 0)})"


def _named(candidates: Sequence[Candidate]) -> str:
    names = ", ".join(c.id for c in candidates[:_MAX_NAMED])
    rest = len(candidates) - _MAX_NAMED
    return f"{names} and {rest} more" if rest > 0 else names


def _quality(candidate: Candidate) -> str:
    return "unknown" if candidate.quality is None else f"{candidate.quality.value:.{QUALITY_DIGITS}f}"


def _low(candidate: Candidate) -> str:
    return "unknown" if candidate.quality is None else f"{candidate.quality.low:.{QUALITY_DIGITS}f}"
