"""The smallest strength of a fault that something notices, by halving the ladder of strengths."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from injecting.fault import Case, Fault
from injecting.judging import HeldOut, failed_checks, task_metric, without_executor

CHANGED = 0.01
"""A task metric has changed where it differs by so much of what it was."""


@dataclass(frozen=True)
class Found:
    """What was found of a fault in a case. A strength is None where nothing is noticed even at the largest.

    Attributes:
        caught: the smallest strength that the suite catches.
        by: the checks that do so there.
        caught_in_file: the smallest strength that it catches if the fault was there already when the bundle was made,
            so that the executor policy compares with faulty outputs.
        by_in_file: the checks that do so.
        harmful: the smallest strength that changes the task metric by `CHANGED`.
        metric: the metric at that strength, or at the largest.
    """

    caught: float | None
    by: tuple[str, ...]
    caught_in_file: float | None
    by_in_file: tuple[str, ...]
    harmful: float | None
    metric: float

    @property
    def is_missed(self) -> bool:
        """Whether a strength that changes the metric is not caught."""
        return self.harmful is not None and (self.caught is None or self.caught > self.harmful)

    @property
    def is_missed_in_file(self) -> bool:
        """Whether that is so if the fault was there when the bundle was made."""
        return self.harmful is not None and (self.caught_in_file is None or self.caught_in_file > self.harmful)


def first_that(holds: Callable[[float], bool], strengths: Sequence[float]) -> float | None:
    """Return the least strength for which something holds, if it holds for all larger ones; None if for none."""
    if not holds(strengths[-1]):
        return None
    low, high = -1, len(strengths) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(strengths[middle]) else (middle, high)
    return strengths[high]


def search(fault: Fault, case: Case, held_out: HeldOut, honest: float) -> Found:
    """Look for the smallest strengths of a fault in a case that the suite and the task metric notice.

    Args:
        fault: what is injected.
        case: into what.
        held_out: the texts that the metric is taken on.
        honest: the metric without a fault.

    Raises:
        NotHere: the case has nothing that the fault could change.
    """

    @cache
    def injected(strength: float) -> Case:
        own = case.copies / str(fault.strengths.index(strength))
        return fault.inject(replace(case, copies=own), strength)

    @cache
    def look(strength: float) -> tuple[str, ...]:
        return failed_checks(injected(strength), fault.room)

    @cache
    def measure(strength: float) -> float:
        return task_metric(injected(strength), held_out)

    caught = first_that(lambda s: bool(look(s)), fault.strengths)
    in_file = first_that(lambda s: bool(without_executor(look(s))), fault.strengths)
    harmful = first_that(lambda s: has_changed(measure(s), honest), fault.strengths)
    metric = measure(fault.strengths[-1] if harmful is None else harmful)
    shutil.rmtree(case.copies, ignore_errors=True)
    return Found(
        caught,
        () if caught is None else look(caught),
        in_file,
        () if in_file is None else without_executor(look(in_file)),
        harmful,
        metric,
    )


def has_changed(metric: float, honest: float) -> bool:
    """Whether a task metric is another than it was."""
    return abs(metric - honest) >= CHANGED * abs(honest)
