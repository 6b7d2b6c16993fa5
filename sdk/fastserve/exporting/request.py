"""What is asked of an export, and what of that is refused before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fastserve.bundles.bundle_writer import check_free
from fastserve.cache.folder import CACHE_REMEDY
from fastserve.cache.writable import check_writable
from fastserve.devices import DEVICES
from fastserve.exporting.length import check_asked_length
from fastserve.pipeline.own_quality import OwnQuality
from fastserve.search.budget import Budget
from fastserve.search.planners import DEFAULT_PLANNERS, PLANNERS
from fastserve.search.ranking import KEEP
from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.task import TASKS, Task, usual_columns
from fastserve_converters.data import Columns, Table, samples_of
from fastserve_converters.inputs import DataFiles, GivenData, input_kind, inputs_of_task
from fastserve_converters.pass_words import parse_passes
from fastserve_converters.precisions import RANGE_METHODS, RangeMethod
from fastserve_runtime.bundle.raw_inputs import OF_TEXTS, PROMPTS
from fastserve_runtime.errors import UsageError

_OF_TABLES = (*OF_TEXTS, PROMPTS)
"""Kinds of inputs that are made of the columns of tables."""


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
    text_column: str | None = None
    label_column: str | None = None
    text_pair_column: str | None = None
    pairs: bool = False
    range_method: str = "min-max"
    passes: tuple[str, ...] = ()
    device: str = "local"
    planners: tuple[str, ...] = DEFAULT_PLANNERS
    threads: int = 1
    seed: int = 0
    cache_dir: Path | None = None
    force: bool = False
    remeasure: bool = False
    debug: bool = False
    debug_dir: Path | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False
    quality: OwnQuality | None = None

    def columns(self, usual: Columns) -> Columns:
        """Return which columns of the data are read: a task's usual ones, but for those that were named."""
        return usual.named(self.text_column, self.text_pair_column, self.label_column)

    @property
    def checked_range_method(self) -> RangeMethod:
        """The range method, which `check_request` let pass."""
        return next(method for method in RANGE_METHODS if method == self.range_method)

    @property
    def wants_pairs(self) -> bool:
        """Whether the model is asked for pairs of texts: by itself, or by naming the column of the second ones."""
        return self.pairs or self.text_pair_column is not None


def check_request(request: ExportRequest) -> None:
    """Refuse settings that mean nothing.

    Raises:
        UsageError: naming the setting and what it may be.
    """
    if request.keep not in KEEP:
        raise UsageError(f"'{request.keep}' is not a way to keep variants.", f"Write one of: {', '.join(KEEP)}.")
    if request.range_method not in RANGE_METHODS:
        raise UsageError(
            f"Ranges cannot be found by '{request.range_method}'.", f"Write one of: {', '.join(RANGE_METHODS)}."
        )
    if not request.planners:
        raise UsageError("No planner was named.", f"Name some of: {', '.join(PLANNERS.built_in())}.")
    for name in request.planners:
        PLANNERS.load(name)
    DEVICES.load(request.device)
    parse_passes(request.passes)
    if request.threads < 1:
        raise UsageError(f"{request.threads} threads were asked for.", "Ask for at least 1.")
    if request.truncate_dim is not None and request.truncate_dim < 1:
        raise UsageError(f"Embeddings were to be cut to {request.truncate_dim} numbers.", "Ask for at least 1.")
    check_asked_length(request.sequence_length, request.context)


def check_places(request: ExportRequest, cache_dir: Path) -> None:
    """Refuse places that cannot be written, before anything is loaded.

    Raises:
        UsageError: the output exists.
        EnvironmentFailure: a folder cannot be written.
    """
    check_free(request.output, force=request.force)
    check_writable(request.output.absolute().parent, "The folder", "Write the bundle into another folder.")
    check_writable(cache_dir, "The cache folder", CACHE_REMEDY, make=True)
    if request.debug_dir is not None:
        check_writable(request.debug_dir, "The folder", "Name another with --debug-dir.", make=True)


def check_data(request: ExportRequest, files: DataFiles, checkpoint: Checkpoint | None) -> None:
    """Refuse data that the steps would refuse, while nothing is loaded; without a checkpoint, what no model takes.

    A task that was asked for and reads something else than tables is not judged without one.

    Raises:
        UsageError: naming the file and the row.
    """
    if checkpoint is None:
        if request.task == "auto" or reads_tables(TASKS.load(request.task)):
            _check_for_any_task(request, files.tables)
        return
    task: Task = TASKS.load(checkpoint.task)
    kind = input_kind(task, takes_pairs=checkpoint.takes_pairs)
    kind.read(GivenData(files, request.columns(usual_columns(task))), checkpoint)


def reads_tables(task: Task) -> bool:
    """Whether a task's inputs are made of the columns of tables."""
    return inputs_of_task(task) in _OF_TABLES


def _check_for_any_task(request: ExportRequest, tables: Sequence[Table]) -> None:
    """Refuse data that has not the columns of any task.

    Raises:
        UsageError: as for texts, which most tasks take.
    """
    tasks: list[Task] = [TASKS.load(name) for name in (*TASKS.built_in(), *TASKS.third_party())]
    refusals = []
    for columns in dict.fromkeys(
        (request.columns(Columns()), *(request.columns(usual_columns(task)) for task in tasks))
    ):
        try:
            samples_of(tables, columns, None)
        except UsageError as error:
            refusals.append(error)
        else:
            return
    raise refusals[0]
