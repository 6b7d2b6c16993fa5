"""Judging a sustained run: did it keep its speed, and if not, was the processor held back?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from fastserve_runtime.measurement.sustained import SustainedRun, Window

MIN_WINDOWS = 3
TOLERANCE = 0.05
"""A loss of speed or frequency up to this share counts as none."""

_HELD_BACK = frozenset({"throttled", "frequency capped", "soft temperature limit"})


class Pace(Enum):
    """How a sustained run went on.

    SLOWER is a loss of speed for which nothing shows that the processor was held back.
    """

    STEADY = "steady"
    SLOWER = "slower"
    THROTTLED = "throttled"
    TOO_SHORT = "too short to tell"


@dataclass(frozen=True)
class Judgement:
    """What a sustained run showed.

    Attributes:
        pace: the verdict.
        first_items_per_second: the speed at the start: of the first window or the first third, whichever is higher.
        last_items_per_second: the speed of the last third.
        evidence: sentences that say what the verdict rests on, and what could not be seen.
    """

    pace: Pace
    first_items_per_second: float | None
    last_items_per_second: float | None
    evidence: tuple[str, ...]

    @property
    def loss(self) -> float | None:
        """The share of speed that was lost: 0.25 is a quarter slower; negative where it became faster."""
        if self.first_items_per_second is None or self.last_items_per_second is None:
            return None
        return 1 - self.last_items_per_second / max(self.first_items_per_second, 1e-12)

    def as_document(self) -> dict[str, Any]:
        """Return the judgement as JSON fields."""
        return {
            "pace": self.pace.value,
            "first_items_per_second": self.first_items_per_second,
            "last_items_per_second": self.last_items_per_second,
            "loss": self.loss,
            "evidence": list(self.evidence),
        }


def judge(run: SustainedRun) -> Judgement:
    """Say whether a run kept its speed.

    It is THROTTLED where the kernel or the firmware says so, or where speed and frequency both fell by more than
    TOLERANCE; SLOWER where only the speed fell.
    """
    windows = run.windows
    third = len(windows) // 3
    counted, states = _throttle_events(run), _firmware_states(run)
    is_held_back = counted > 0 or bool(states & _HELD_BACK)
    told = (
        f"the kernel counted {counted} throttling events during the run" if counted > 0 else None,
        f"the firmware reported during the run: {', '.join(sorted(states))}" if states else None,
    )
    if len(windows) < MIN_WINDOWS:
        pace = Pace.THROTTLED if is_held_back else Pace.TOO_SHORT
        short = f"only {len(windows)} windows of {run.window_seconds:.0f} s were run"
        return Judgement(pace, None, None, _sentences(*told, short))
    first = max(_speed(windows[:1]), _speed(windows[:third]))
    last = _speed(windows[-third:])
    has_slowed = last < (1 - TOLERANCE) * first
    frequency = _frequency_loss(windows, third) if has_slowed else None
    pace = Pace.STEADY
    if is_held_back or frequency is not None:
        pace = Pace.THROTTLED
    elif has_slowed:
        pace = Pace.SLOWER
    lost = _lost_processor(windows, third) if has_slowed else None
    unseen = _unseen(run) if pace is not Pace.THROTTLED else None
    is_unexplained = pace is Pace.SLOWER and lost is None and unseen is None
    riddle = "nothing that the system shows here says why" if is_unexplained else None
    return Judgement(pace, first, last, _sentences(*told, frequency, _warming(run), lost, unseen, riddle))


def _sentences(*sentences: str | None) -> tuple[str, ...]:
    return tuple(sentence for sentence in sentences if sentence is not None)


def _speed(windows: Sequence[Window]) -> float:
    return sum(w.items for w in windows) / max(sum(w.seconds for w in windows), 1e-9)


def _throttle_events(run: SustainedRun) -> int:
    """Return by how much the kernel's counters rose during the run."""
    counts = [t.throttle_count for t in (run.before, *(w.thermal for w in run.windows)) if t.throttle_count is not None]
    return counts[-1] - counts[0] if counts else 0


def _firmware_states(run: SustainedRun) -> set[str]:
    """Return the states that the firmware was in during the run; what it remembers from before counts for nothing."""
    known = set(run.before.firmware_occurred or ())
    remembered = {state for w in run.windows for state in w.thermal.firmware_occurred or ()} - known
    return remembered | {state for w in run.windows for state in w.thermal.firmware_now or ()}


def _frequency_loss(windows: Sequence[Window], third: int) -> str | None:
    # The fastest core is the one that works, where the others idle.
    first = _mean(windows[:third], lambda w: w.thermal.highest_frequency_megahertz)
    start = _mean(windows[:1], lambda w: w.thermal.highest_frequency_megahertz)
    last = _mean(windows[-third:], lambda w: w.thermal.highest_frequency_megahertz)
    if first is None or start is None or last is None:
        return None
    highest = max(first, start)
    if last >= (1 - TOLERANCE) * highest:
        return None
    return f"the processor's frequency fell from {highest:.0f} to {last:.0f} MHz"


def _warming(run: SustainedRun) -> str | None:
    readings = [t.temperature_celsius for t in (run.before, *(w.thermal for w in run.windows))]
    known = [r for r in readings if r is not None]
    if not known:
        return None
    return f"the temperature went from {known[0]:.0f} to {known[-1]:.0f} °C, at most {max(known):.0f} °C"


def _lost_processor(windows: Sequence[Window], third: int) -> str | None:
    first = _mean(windows[:third], lambda w: w.busy_share) or 0.0
    last = _mean(windows[-third:], lambda w: w.busy_share) or 0.0
    if last >= (1 - TOLERANCE) * first:
        return None
    return f"the process had {last:.2f} processors at the end, {first:.2f} at the start: other work took the rest"


def _unseen(run: SustainedRun) -> str | None:
    """Say that a cause cannot be seen where the system shows nothing to see it by."""
    last = run.windows[-1].thermal
    shown = (last.highest_frequency_megahertz, last.throttle_count, last.firmware_now)
    if any(value is not None for value in shown):
        return None
    return "the system shows neither frequency nor throttling here, so only the speed itself was judged"


def _mean(windows: Sequence[Window], value: Callable[[Window], float | None]) -> float | None:
    values = [v for v in map(value, windows) if v is not None]
    return sum(values) / len(values) if values else None
