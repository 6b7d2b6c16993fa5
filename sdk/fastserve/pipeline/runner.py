"""Doing steps: in this process, with a cache, progress and times."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fastserve.cache.cache import Cache
from fastserve.cache.records import Entry
from fastserve.pipeline.step import Made, Step
from fastserve.pipeline.workshop import Workshop
from fastserve.progress import PlannedStep, Reporter
from fastserve_runtime.errors import ProcessDied


@dataclass(frozen=True)
class StepTime:
    """How long a step took, and whether its result came from the cache."""

    stage: str
    seconds: float
    cached: bool


class Runner:
    """Does steps and what they need, each once; a step in the cache is not done again.

    Attributes:
        cache: where results are kept.
        workshop: what steps are done with.
        times: of what was done so far, in order.
    """

    def __init__(self, cache: Cache, workshop: Workshop, reporter: Reporter) -> None:
        self.cache = cache
        self.workshop = workshop
        self.times: list[StepTime] = []
        self._reporter = reporter
        self._planned: set[Step] = set()
        self._made: dict[Step, Entry] = {}

    def plan(self, steps: Iterable[Step]) -> None:
        """Count steps, and all that they need, into the progress before they begin."""
        found = [step for step in _with_needs(steps) if step not in self._planned]
        if found:
            self._planned |= set(found)
            self._reporter.plan([PlannedStep(step.title, step.weight) for step in found])

    def run(self, step: Step) -> Entry:
        """Return what a step gives, after doing it and what it needs where that is not done yet.

        Raises:
            FastServeError: one of them cannot be done.
        """
        if step not in self._made:
            made = {name: self.run(needed) for name, needed in step.needs.items()}
            self.plan([step])
            self._reporter.start(step.title)
            self._made[step] = self._done(step, made)
            self._reporter.finish(step.title)
        return self._made[step]

    def _done(self, step: Step, made: Made) -> Entry:
        key = step.work.key(made)
        if step.is_fresh:
            self.cache.remove(step.kind, key)
        entry = self.cache.find(step.kind, key)
        is_cached = entry is not None
        left = step.attempts
        while entry is None:
            left -= 1
            try:
                entry = self.cache.make(step.kind, key, lambda out: step.work.do(made, out, self.workshop))
            except ProcessDied:
                if not left:
                    raise
        self.times.append(StepTime(step.title, entry.seconds, is_cached))
        return entry


def _with_needs(steps: Iterable[Step]) -> Iterable[Step]:
    """Yield steps behind those that they need, each once."""
    ordered: dict[Step, None] = {}

    def add(step: Step) -> None:
        for needed in step.needs.values():
            add(needed)
        ordered.setdefault(step)

    for step in steps:
        add(step)
    return ordered
