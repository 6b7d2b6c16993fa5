"""Steps are done once, behind what they need, and told as they were counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fastserve.cache.cache import Cache
from fastserve.pipeline.runner import Runner
from fastserve.pipeline.step import Made, Step
from fastserve.pipeline.workshop import Workshop
from fastserve_runtime.errors import EnvironmentFailure, ProcessDied


@dataclass
class Adding:
    """Adds a number to what it needs; fails so often before."""

    number: int
    failures: list[Exception] = field(default_factory=list)
    done: int = 0

    def key(self, made: Made) -> dict[str, Any]:
        return {"number": self.number, "needs": {name: entry.key for name, entry in made.items()}}

    def do(self, made: Made, out: Path, workshop: Workshop) -> int:
        self.done += 1
        (out / "number").write_text(str(self.number))
        if self.failures:
            raise self.failures.pop()
        return self.number + sum(entry.result for entry in made.values())


@dataclass
class Told:
    """A reporter that writes down what it is told."""

    planned: list[tuple[str, float]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def plan(self, steps: Any) -> None:
        self.planned += [(step.name, step.weight) for step in steps]

    def start(self, name: str) -> None:
        self.lines.append(f"start {name}")

    def finish(self, name: str) -> None:
        self.lines.append(f"finish {name}")


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def runner(tmp_path: Path, told: Told) -> Runner:
    cache = Cache(tmp_path / "cache")
    device: Any = None
    return Runner(cache, Workshop(cache, device), told)


def step(number: int, needs: Mapping[str, Step] | None = None, **settings: Any) -> Step:
    return Step("adding", f"Add {number}", number, Adding(number), needs or {}, **settings)


def work(of: Step) -> Adding:
    assert isinstance(of.work, Adding)
    return of.work


def test_what_is_needed_comes_first_and_once(runner: Runner, told: Told) -> None:
    first = step(1)
    second, third = step(2, {"first": first}), step(3, {"first": first})
    last = step(4, {"second": second, "third": third})
    runner.plan([last])
    assert told.planned == [("Add 1", 1), ("Add 2", 2), ("Add 3", 3), ("Add 4", 4)]
    assert runner.run(last).result == 4 + (2 + 1) + (3 + 1)
    runner.run(third)
    assert told.lines == [f"{verb} Add {n}" for n in (1, 2, 3, 4) for verb in ("start", "finish")]
    assert [(t.stage, t.cached) for t in runner.times] == [(f"Add {n}", False) for n in (1, 2, 3, 4)]
    assert len(told.planned) == 4


def test_steps_that_were_not_counted_before_are_counted_when_they_begin(runner: Runner, told: Told) -> None:
    runner.run(step(2, {"first": step(1)}))
    assert told.planned == [("Add 1", 1), ("Add 2", 2)]


def test_what_is_in_the_cache_is_not_done_again_but_where_it_is_to_be_fresh(runner: Runner, tmp_path: Path) -> None:
    runner.run(step(1))
    runner.cache.close()  # what a run has in use stays for it
    device: Any = None
    with Cache(tmp_path / "cache") as cache, Workshop(cache, device) as workshop:
        again, fresh = step(1), step(1, is_fresh=True)
        later = Runner(cache, workshop, Told())
        later.run(again)
        assert work(again).done == 0
        later.run(fresh)
        assert work(fresh).done == 1
        assert [t.cached for t in later.times] == [True, False]


def test_a_process_that_died_is_tried_again_as_often_as_the_step_says(runner: Runner) -> None:
    lucky, unlucky = step(1, attempts=2), step(2, attempts=2)
    work(lucky).failures = [ProcessDied("It died.")]
    assert (runner.run(lucky).result, work(lucky).done) == (1, 2)
    work(unlucky).failures = [ProcessDied("It died.")] * 2
    with pytest.raises(ProcessDied):
        runner.run(unlucky)
    assert work(unlucky).done == 2


def test_any_other_failure_is_final(runner: Runner, told: Told) -> None:
    refused = step(1, attempts=2)
    work(refused).failures = [EnvironmentFailure("It refuses the model.")]
    with pytest.raises(EnvironmentFailure, match="refuses"):
        runner.run(refused)
    assert work(refused).done == 1
    assert told.lines == ["start Add 1"]
    assert runner.times == []


def test_a_step_whose_need_fails_is_not_begun(runner: Runner, told: Told) -> None:
    first = step(1)
    work(first).failures = [EnvironmentFailure("It refuses the model.")]
    last = step(2, {"first": first})
    with pytest.raises(EnvironmentFailure):
        runner.run(last)
    assert work(last).done == 0
    assert told.lines == ["start Add 1"]
