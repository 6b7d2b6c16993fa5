"""The whole way of a model: from a checkpoint to a bundle of the variants that fit a budget."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from fastserve.bundles.bundle_writer import write_bundle
from fastserve.bundles.evidence import evidence_of
from fastserve.bundles.manifest_writer import bundle_content
from fastserve.cache.cache import Cache, Entry
from fastserve.cache.folder import default_cache_dir
from fastserve.devices import DEVICES, Device
from fastserve.exporting.length import export_length
from fastserve.exporting.model_source import ModelSource, find_model
from fastserve.exporting.notes import data_notes, quality_notes, unmeasured_notes
from fastserve.exporting.programs import checked_program, is_program
from fastserve.exporting.request import ExportRequest, check_data, check_places, check_request
from fastserve.pipeline.converter_process import ConverterProcess
from fastserve.pipeline.progress import Reporter, SilentReporter, Step
from fastserve.pipeline.stages import DataSettings, Stages, StageTime
from fastserve.pipeline.step_names import PROGRAM_STEP
from fastserve.pipeline.target_stages import TargetStages
from fastserve.search.budget import Budget, check_applies
from fastserve.search.candidate import Candidate
from fastserve.search.choice_reason import choice_reason
from fastserve.search.mixing import check_limited
from fastserve.search.ranking import choose, judge, rank, shipped, shipped_for_targets
from fastserve.search.target_plans import check_named, target_plans, with_portable_bases
from fastserve.search.target_variants import make_target_candidates, planned_target_steps
from fastserve.search.variants import Making, make_candidates, planned_steps
from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.checkpoints.task import TASKS, Task, usual_columns
from fastserve_converters.data import Table, read_tables
from fastserve_converters.formats import (
    FORMATS,
    check_installed,
    chosen_precisions,
    installation_hint,
    missing_modules,
    precisions_of,
)
from fastserve_converters.models.sources import form_of_task
from fastserve_converters.precisions import Precision
from fastserve_converters.programs.torch_program import TorchProgram
from fastserve_runtime.errors import EnvironmentFailure, UsageError
from fastserve_runtime.measurement.machine import Machine


@dataclass(frozen=True)
class ExportResult:
    """What came of an export.

    Attributes:
        bundle: where it was written; None where nothing fits.
        digest: the bundle's id; None where nothing fits.
        chosen: the best candidate that fits, or None.
        chosen_because: what decided that, in a sentence; None where nothing fits.
        candidates: all of them, in the order they were made, judged.
        shipped: ids of those in the bundle, best first.
        machine: what latency and memory belong to.
        length: tokens that the model takes: of one text, or its context; 0 of a program.
        generates: whether it generates text, so that it has a time to first token and per output token.
        notes: what the user should know, in sentences.
        stages: how long each stage took.
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
    stages: tuple[StageTime, ...]
    reference: Path
    seconds: float


def run_export(request: ExportRequest, reporter: Reporter | None = None) -> ExportResult:
    """Export a model; nothing is written to `request.output` where nothing fits.

    Raises:
        UsageError: the model, a setting or the data is wrong, or the output exists.
        EnvironmentFailure: a converter is missing, or every one failed.
    """
    started = time.perf_counter()
    check_request(request)
    cache_dir = request.cache_dir or default_cache_dir()
    check_places(request, cache_dir)
    source, checkpoint, tables = _model(request)
    length = 0
    if not isinstance(checkpoint, TorchProgram):
        length = export_length(checkpoint, request.sequence_length, request.context)
    form = form_of_task(checkpoint.task)
    check_applies(request.budget, generates=form == "cached")
    check_named(request.targets, generates=form == "cached")
    formats, notes = _formats(request.formats)
    available = {name: precisions_of(FORMATS.load(name), form) for name in formats}
    plans, target_notes = target_plans(request.targets or (), formats)
    own = {plan.name: plan.precisions(available) for plan in plans}
    wanted = chosen_precisions({**available, **own}, request.precisions)
    notes += [*target_notes, *(f"{n} has none of the precisions that were named." for n, p in wanted.items() if not p)]
    precisions = with_portable_bases(plans, wanted, available)
    check_limited(_mixed_precisions(available, precisions), request.budget)
    device: Device = DEVICES.load("local")
    # The cache last of all: what is in use there must stay until the bundle is written.
    with Cache(cache_dir) as cache, ExitStack() as resources, ConverterProcess(debug=request.debug) as converter:
        stages = Stages(
            cache=cache,
            converter=converter,
            device=device,
            reporter=reporter or SilentReporter(),
            checkpoint=checkpoint,
            length=length,
            allow_pickle=request.allow_pickle,
            trust_remote_code=request.trust_remote_code,
            debug=request.debug,
            own_quality=request.quality,
        )
        target_stages = resources.enter_context(TargetStages(stages))
        target_steps = (s for plan in plans for s in planned_target_steps(plan, wanted[plan.name]))
        stages.reporter.plan([*_steps(available, precisions), *target_steps])
        task: Task = TASKS.load(checkpoint.task)
        columns = request.columns(usual_columns(task))
        reference = stages.reference(
            DataSettings(request.data, columns.text, columns.pair, columns.label, request.seed)
        )
        program = stages.program(reference)
        making = Making(
            stages,
            reference,
            request.budget,
            request.threads,
            request.remeasure,
            request.seed,
            request.range_method,
        )
        candidates = [c for name in formats for c in make_candidates(making, name, precisions[name])]
        portable = tuple(candidates)
        for plan in plans:
            candidates += make_target_candidates(making, target_stages, plan, wanted[plan.name], portable)
        _check_any_made(candidates)
        judged = judge(candidates, request.budget)
        ranked = rank(judged)
        kept = shipped(ranked, request.keep)
        kept += shipped_for_targets(judged) if kept else []
        identifier = _write(request, kept, judged, reference, checkpoint, source) if kept else None
        if request.debug_dir is not None:
            _write_debug(request.debug_dir, judged, program)
    return ExportResult(
        bundle=request.output if kept else None,
        digest=identifier,
        chosen=ranked[0] if ranked else None,
        chosen_because=choice_reason(choose(ranked), len(ranked)) if ranked else None,
        candidates=tuple(judged),
        shipped=tuple(c.id for c in kept),
        budget=request.budget,
        task=checkpoint.task,
        model=source.name,
        machine=device.machine(),
        threads=request.threads,
        length=length,
        generates=form == "cached",
        notes=(
            *notes,
            *_model_notes(request, tables, reference, checkpoint, length),
            *unmeasured_notes(judged),
        ),
        stages=tuple(stages.times),
        reference=reference.folder,
        seconds=time.perf_counter() - started,
    )


def _model(request: ExportRequest) -> tuple[ModelSource, Checkpoint | TorchProgram, Sequence[Table]]:
    """Return where the model comes from, what it is, and the tables of texts, all checked."""
    options = {"allow_pickle": request.allow_pickle, "trust_remote_code": request.trust_remote_code}
    if is_program(request.model):
        return find_model(request.model, **options), checked_program(request), ()
    tables = read_tables(request.data)
    check_data(request, tables, None)
    source = find_model(request.model, **options)
    checkpoint = read_checkpoint(
        source.directory,
        task=request.task,
        truncate_dim=request.truncate_dim,
        pairs=request.wants_pairs,
        **options,
    )
    check_data(request, tables, checkpoint)
    return source, checkpoint, tables


def _formats(wanted: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Return the formats to export and notes on those that were left out.

    Formats that were named must be installed; if none was named, those that are installed are taken.
    """
    if wanted is not None:
        if not wanted:
            raise UsageError("No format was named.", f"Name some of: {', '.join(FORMATS.built_in())}.")
        for name in wanted:
            check_installed(name)
        return list(dict.fromkeys(wanted)), []
    installed, notes = [], []
    # ONNX first: it is quickest, so the first result comes soon.
    for name in sorted(FORMATS.built_in(), key=lambda n: (n != "onnx", n != "tflite", n)):
        missing = missing_modules(FORMATS.load(name))
        if missing:
            notes.append(f"{name} was left out: its converter is not installed ({installation_hint(name)}).")
        else:
            installed.append(name)
    if not installed:
        raise EnvironmentFailure(
            "No converter is installed.", f"Install one, for example: {installation_hint('onnx')}."
        )
    return installed, notes


def _model_notes(
    request: ExportRequest,
    tables: Sequence[Table],
    reference: Entry,
    checkpoint: Checkpoint | TorchProgram,
    length: int,
) -> Iterator[str]:
    if isinstance(checkpoint, TorchProgram):
        yield from reference.result["notes"]
        return
    yield from data_notes(request, tables, checkpoint)
    yield from quality_notes(request, reference, checkpoint, length)


def _steps(available: Mapping[str, Mapping[str, Precision]], precisions: Mapping[str, Sequence[str]]) -> Iterator[Step]:
    yield Step("Reference outputs", 15)
    yield Step(PROGRAM_STEP, 3)
    for name, wanted in precisions.items():
        yield from planned_steps(name, available[name], wanted)


def _mixed_precisions(
    available: Mapping[str, Mapping[str, Precision]], precisions: Mapping[str, Sequence[str]]
) -> list[str]:
    return [p for name, wanted in precisions.items() for p in wanted if available[name][p].choices]


def _check_any_made(candidates: Sequence[Candidate]) -> None:
    if all(c.failure is not None for c in candidates):
        reasons = " ".join(f"{c.id}: {c.failure}" for c in candidates)
        raise EnvironmentFailure(f"No variant could be made. {reasons}", "--debug shows the converters' logs.")


def _write(
    request: ExportRequest,
    kept: Sequence[Candidate],
    judged: Sequence[Candidate],
    reference: Entry,
    checkpoint: Checkpoint | TorchProgram,
    source: ModelSource,
) -> str:
    manifest, files = bundle_content(kept, reference, checkpoint, source)
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    evidence = {name: document for c in judged if c in kept for name, document in evidence_of(c, now)}
    return write_bundle(request.output, manifest, files, evidence, force=request.force)


def _write_debug(folder: Path, candidates: Sequence[Candidate], program: Entry) -> None:
    """Copy the exported program, the layer maps and the debug handles for whoever looks for a wrong layer."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in program.files:
        shutil.copyfile(program.folder / name, folder / name)
    for candidate in candidates:
        if candidate.folder is None or candidate.artifact is None:
            continue
        for file in candidate.folder.glob("*.json"):
            if file.name != "entry.json":
                shutil.copyfile(file, folder / f"{candidate.id}-{file.name}")
