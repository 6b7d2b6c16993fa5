"""The whole way of a model: from what the user gave to a bundle of the variants that fit a budget.

resolve → propose → run → rank → ship
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fastserve.cache.cache import Cache
from fastserve.exporting.notes import unmeasured_notes
from fastserve.exporting.passing import after_passes
from fastserve.exporting.request import ExportRequest
from fastserve.exporting.resolving import Resolved, resolve
from fastserve.exporting.shipping import ship, write_debug
from fastserve.exporting.workbench import Workbench
from fastserve.pipeline.runner import Runner, StepTime
from fastserve.pipeline.steps import REFERENCE
from fastserve.pipeline.workshop import Workshop
from fastserve.progress import Reporter, SilentReporter
from fastserve.search.budget import Budget
from fastserve.search.candidate import Candidate
from fastserve.search.choice_reason import choice_reason
from fastserve.search.planners import CannotPropose, Planner
from fastserve.search.ranking import choose, judge, rank, shipped, shipped_for_targets
from fastserve_converters.recipe import Recipe
from fastserve_runtime.errors import EnvironmentFailure
from fastserve_runtime.measurement.machine import Machine


@dataclass(frozen=True)
class ExportResult:
    """What came of an export.

    Attributes:
        bundle: where it was written; None where nothing fits.
        digest: the bundle's id; None where nothing fits.
        chosen: the best candidate that fits, or None.
        chosen_because: what decided that, in a sentence; None where nothing fits.
        candidates: all of them, in the order of makers and precisions, judged.
        shipped: ids of those in the bundle, best first.
        machine: what latency and memory belong to.
        length: tokens that the model takes: of one text, or its context; 0 of a program.
        generates: whether it generates text, so that it has a time to first token and per output token.
        notes: what the user should know, in sentences.
        stages: how long each step took.
        reference: the cache's folder of evaluation inputs and what the untouched model gave for them.
        seconds: how long all of it took.
    """

    bundle: Path | None
    digest: str | None
    chosen: Candidate | None
    chosen_because: str | None
    candidates: tuple[Candidate, ...]
    shipped: tuple[str, ...]
    budget: Budget
    task: str
    model: str
    machine: Machine
    threads: int
    length: int
    generates: bool
    notes: tuple[str, ...]
    stages: tuple[StepTime, ...]
    reference: Path
    seconds: float


def run_export(request: ExportRequest, reporter: Reporter | None = None) -> ExportResult:
    """Export a model; nothing is written to `request.output` where nothing fits.

    Raises:
        UsageError: the model, a setting or the data is wrong, or the output exists.
        EnvironmentFailure: a converter is missing, or every one failed.
    """
    started = time.perf_counter()
    asked = resolve(request)
    # What is in use in the cache must stay until the bundle is written.
    with Cache(asked.cache_dir) as cache, Workshop(cache, asked.device, debug=request.debug) as workshop:
        runner = Runner(cache, workshop, reporter or SilentReporter())
        makers = {maker.name: maker for maker in asked.makers}
        after = after_passes(asked, runner)
        bench = Workbench(
            runner, after.steps, makers, asked.device, request.threads, request.remeasure, request.quality
        )
        planners = asked.planners(bench)
        runner.plan([bench.steps.judged_against, bench.steps.program])
        original, reference = runner.run(bench.steps.judged_against), runner.run(bench.steps.reference)
        program = runner.run(bench.steps.program)
        candidates = _ordered(search(planners, bench, request.budget), asked)
        _check_any_made(candidates)
        ranked = rank(candidates)
        kept = shipped(ranked, request.keep)
        kept += shipped_for_targets(candidates) if kept else []
        digest = ship(asked, kept, candidates, reference) if kept else None
        if request.debug_dir is not None:
            write_debug(request.debug_dir, candidates, program)
    return ExportResult(
        bundle=request.output if kept else None,
        digest=digest,
        chosen=ranked[0] if ranked else None,
        chosen_because=choice_reason(choose(ranked), len(ranked)) if ranked else None,
        candidates=tuple(candidates),
        shipped=tuple(c.id for c in kept),
        budget=request.budget,
        task=asked.checkpoint.task,
        model=asked.source.name,
        machine=asked.device.machine(),
        threads=request.threads,
        length=asked.length,
        generates=asked.generates,
        notes=(*asked.notes(original), *after.notes(original, reference), *unmeasured_notes(candidates)),
        stages=tuple(_with_loading(runner.times, original.result["load_seconds"])),
        reference=original.folder,
        seconds=time.perf_counter() - started,
    )


def search(planners: Sequence[Planner], bench: Workbench, budget: Budget) -> list[Candidate]:
    """Make what the planners propose, one planner after the other, until none proposes more; and judge it.

    Raises:
        FastServeError: in a way that would fail every recipe.
    """
    seen: list[Candidate] = []
    for planner in planners:
        while True:
            known = {candidate.recipe for candidate in seen}
            try:
                proposed = [r for r in planner.propose(judge(seen, budget), budget) if r not in known]
            except CannotPropose as refusal:
                if refusal.recipe in known:
                    break
                seen.append(bench.failed(refusal.recipe, f"export failed: {refusal.cause}"))
                continue
            if not proposed:
                break
            bench.plan(proposed)
            seen += [bench.candidate(recipe) for recipe in dict.fromkeys(proposed)]
    return judge(seen, budget)


def _ordered(candidates: Sequence[Candidate], asked: Resolved) -> list[Candidate]:
    """Return candidates in the order of makers, and of the precisions that each lists; what came later stays behind."""
    places = [(name, precision) for name, chosen in asked.wanted.items() for precision in chosen]

    def place(recipe: Recipe) -> int:
        own = recipe.maker, recipe.precision
        return places.index(own) if own in places else len(places)

    return sorted(candidates, key=lambda candidate: place(candidate.recipe))


def _check_any_made(candidates: Sequence[Candidate]) -> None:
    if all(c.failure is not None for c in candidates):
        reasons = " ".join(f"{c.id}: {c.failure}" for c in candidates)
        raise EnvironmentFailure(f"No variant could be made. {reasons}", "--debug shows the converters' logs.")


def _with_loading(times: Sequence[StepTime], seconds: float) -> list[StepTime]:
    """Return times with that of loading apart: a converter process' first job does it, and every export needs it."""
    told: list[StepTime] = []
    for each in times:
        if each.stage == REFERENCE:
            told += [StepTime("Load model", seconds, each.cached), replace(each, seconds=each.seconds - seconds)]
        else:
            told.append(each)
    return told
