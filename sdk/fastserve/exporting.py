"""The whole way of a model: from a checkpoint to a bundle of the variants that fit a budget."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from platformdirs import user_cache_path

from fastserve.budget import Budget, check_applies
from fastserve.bundle_writer import check_free, write_bundle
from fastserve.cache import Cache, Entry
from fastserve.candidate import Candidate
from fastserve.choice_reason import choice_reason
from fastserve.converter_process import ConverterProcess
from fastserve.devices import DEVICES, Device
from fastserve.evidence import evidence_of
from fastserve.export_length import check_asked_length, export_length, length_notes
from fastserve.manifest_writer import bundle_content
from fastserve.mixing import check_limited
from fastserve.model_source import ModelSource, find_model
from fastserve.progress import Reporter, SilentReporter, Step
from fastserve.ranking import KEEP, choose, judge, rank, shipped, shipped_for_targets
from fastserve.stages import DataSettings, Stages, StageTime
from fastserve.step_names import PROGRAM_STEP
from fastserve.target_plans import check_named, target_plans, with_portable_bases
from fastserve.target_stages import TargetStages
from fastserve.target_variants import make_target_candidates, planned_target_steps
from fastserve.variants import Making, make_candidates, planned_steps
from fastserve.writable import check_writable
from fastserve_converters.checkpoint import Checkpoint, read_checkpoint
from fastserve_converters.data import Columns, Table, read_tables, samples_of, unused_texts
from fastserve_converters.formats import (
    FORMATS,
    check_installed,
    chosen_precisions,
    installation_hint,
    missing_modules,
    precisions_of,
)
from fastserve_converters.precisions import RANGE_METHODS, Precision
from fastserve_converters.tasks import TASKS, Task
from fastserve_runtime.errors import EnvironmentFailure, UsageError
from fastserve_runtime.machine import Machine

CACHE_REMEDY = "Name a folder that can be written with --cache-dir, or in the environment variable FASTSERVE_CACHE_DIR."


@dataclass(frozen=True)
class ExportRequest:
    """What is asked for; see `fastserve.export` for the fields."""

    model: str
    output: Path
    task: str = "auto"
    formats: tuple[str, ...] | None = None
    precisions: tuple[str, ...] | None = None
    targets: tuple[str, ...] | None = None
    sequence_length: int | None = None
    context: int | None = None
    truncate_dim: int | None = None
    budget: Budget = field(default_factory=Budget)
    keep: str = "formats"
    data: tuple[Path, ...] = ()
    text_column: str = "text"
    label_column: str = "label"
    text_pair_column: str | None = None
    pairs: bool = False
    range_method: str = "min-max"
    threads: int = 1
    seed: int = 0
    cache_dir: Path | None = None
    force: bool = False
    remeasure: bool = False
    debug: bool = False
    debug_dir: Path | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False

    @property
    def columns(self) -> Columns:
        """Which columns of the data are read."""
        return Columns(self.text_column, self.text_pair_column, self.label_column)

    @property
    def wants_pairs(self) -> bool:
        """Whether the model is asked for pairs of texts: by itself, or by naming the column of the second ones."""
        return self.pairs or self.text_pair_column is not None


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
        length: tokens that the model takes: of one text, or its context.
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
    _check(request)
    cache_dir = request.cache_dir or default_cache_dir()
    _check_places(request, cache_dir)
    tables = read_tables(request.data)
    _check_data(request, tables, None)
    source = find_model(request.model, allow_pickle=request.allow_pickle, trust_remote_code=request.trust_remote_code)
    checkpoint = read_checkpoint(
        source.directory,
        task=request.task,
        allow_pickle=request.allow_pickle,
        trust_remote_code=request.trust_remote_code,
        truncate_dim=request.truncate_dim,
        pairs=request.wants_pairs,
    )
    _check_data(request, tables, checkpoint)
    task: Task = TASKS.load(checkpoint.task)
    length = export_length(checkpoint, request.sequence_length, request.context)
    check_applies(request.budget, generates=task.GENERATES)
    check_named(request.targets, generates=task.GENERATES)
    formats, notes = _formats(request.formats)
    available = {name: precisions_of(FORMATS.load(name), generates=task.GENERATES) for name in formats}
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
        )
        target_stages = resources.enter_context(TargetStages(stages))
        target_steps = (s for plan in plans for s in planned_target_steps(plan, wanted[plan.name]))
        stages.reporter.plan([*_steps(available, precisions), *target_steps])
        reference = stages.reference(
            DataSettings(
                request.data, request.text_column, request.text_pair_column, request.label_column, request.seed
            )
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
        generates=task.GENERATES,
        notes=(
            *notes,
            *_data_notes(request, tables, checkpoint),
            *_notes(request, reference, checkpoint, length),
            *_target_notes(judged),
        ),
        stages=tuple(stages.times),
        reference=reference.folder,
        seconds=time.perf_counter() - started,
    )


def default_cache_dir() -> Path:
    """Return where finished stages are kept unless `cache_dir` says otherwise.

    The folder that the environment variable FASTSERVE_CACHE_DIR names, else the user's cache folder.

    Raises:
        EnvironmentFailure: there is neither.
    """
    named = os.environ.get("FASTSERVE_CACHE_DIR")
    folder = Path(named) if named else user_cache_path("fastserve", appauthor=False)
    # Where a user has no home folder, what stands for it is left as it is, and would be made right here.
    if not named and not folder.is_absolute():
        raise EnvironmentFailure("This user has no home folder for the cache.", CACHE_REMEDY)
    return folder


def _check(request: ExportRequest) -> None:
    if request.keep not in KEEP:
        raise UsageError(f"'{request.keep}' is not a way to keep variants.", f"Write one of: {', '.join(KEEP)}.")
    if request.range_method not in RANGE_METHODS:
        raise UsageError(
            f"Ranges cannot be found by '{request.range_method}'.", f"Write one of: {', '.join(RANGE_METHODS)}."
        )
    if request.threads < 1:
        raise UsageError(f"{request.threads} threads were asked for.", "Ask for at least 1.")
    if request.truncate_dim is not None and request.truncate_dim < 1:
        raise UsageError(f"Embeddings were to be cut to {request.truncate_dim} numbers.", "Ask for at least 1.")
    check_asked_length(request.sequence_length, request.context)


def _check_places(request: ExportRequest, cache_dir: Path) -> None:
    """Refuse places that cannot be written before anything is loaded."""
    check_free(request.output, force=request.force)
    check_writable(request.output.absolute().parent, "The folder", "Write the bundle into another folder.")
    check_writable(cache_dir, "The cache folder", CACHE_REMEDY, make=True)
    if request.debug_dir is not None:
        check_writable(request.debug_dir, "The folder", "Name another with --debug-dir.", make=True)


def _check_data(request: ExportRequest, tables: Sequence[Table], checkpoint: Checkpoint | None) -> None:
    """Refuse data that the steps would refuse, while nothing is loaded; without a checkpoint, what no model takes."""
    if checkpoint is None:
        samples_of(tables, request.columns, None)
        return
    task: Task = TASKS.load(checkpoint.task)
    samples_of(tables, request.columns, task.label_kind(checkpoint), takes_pairs=checkpoint.takes_pairs)


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
    checkpoint: Checkpoint,
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


def _target_notes(candidates: Sequence[Candidate]) -> Iterator[str]:
    made = [c for c in candidates if c.target is not None and c.failure is None]
    if made:
        yield (
            f"Latency and memory of {', '.join(c.id for c in made)} were not judged: nothing is measured on their "
            "targets. Their quality is that of the same model on an executor that is trusted."
        )


def _data_notes(request: ExportRequest, tables: Sequence[Table], checkpoint: Checkpoint) -> Iterator[str]:
    """Name columns of texts that are not used, such as the second texts of pairs."""
    used = [name for name in (request.text_column, request.text_pair_column, request.label_column) if name is not None]
    names = dict.fromkeys(name for table in tables for name in unused_texts(table, used))
    task: Task = TASKS.load(checkpoint.task)
    for name in names:
        way = (
            f" If the model takes pairs of texts, export it with --text-pair-column {name}."
            if task.PAIRS == "optional" and not checkpoint.takes_pairs
            else ""
        )
        yield f"The data's column '{name}' holds texts too and is not used: '{request.text_column}' is.{way}"


def _notes(request: ExportRequest, reference: Entry, checkpoint: Checkpoint, length: int) -> Iterator[str]:
    count = reference.result["evaluation"]
    task: Task = TASKS.load(checkpoint.task)
    yield from checkpoint.notes
    yield from length_notes(checkpoint, length, was_asked=request.sequence_length is not None)
    yield from reference.result.get("notes", ())
    texts = "pairs of texts" if checkpoint.takes_pairs else "texts"
    unit = "stretches of text" if task.GENERATES else texts
    if not request.data:
        yield (
            f"No --data was given: quality was judged on {count} {unit} that ship with FastServe. "
            "Your own texts say more about your use."
        )
    else:
        label = "" if reference.result["labels"] is None else ", with labels"
        yield f"Quality was judged on {count} {unit} of your data{label}."
        if count < 200 and not task.GENERATES:
            yield f"{count} evaluation {texts} are few: the interval of the quality is wide."
    if checkpoint.licence is None and not checkpoint.licence_files():
        yield "The checkpoint's licence is unknown: find it before you pass the bundle on."
    elif checkpoint.licence is None:
        yield "The checkpoint's model card names no licence; its files were copied into the bundle."
