"""What an export works on and with: resolved from a request, with all that can be refused before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastserve.cache.folder import default_cache_dir
from fastserve.cache.records import Entry
from fastserve.devices import DEVICES, Device
from fastserve.exporting.length import export_length
from fastserve.exporting.notes import data_notes, quality_notes
from fastserve.exporting.pass_checks import check_passes
from fastserve.exporting.programs import checked_program, judged_precisions
from fastserve.exporting.request import ExportRequest, check_data, check_places, check_request, reads_tables
from fastserve.exporting.workbench import Workbench
from fastserve.makers import Maker
from fastserve.makers.choosing import chosen_for, portable_makers, target_makers
from fastserve.model_source import ModelSource, find_model, is_program
from fastserve.pipeline.steps import DataSettings, ModelSteps
from fastserve.pipeline.subject import ModelSubject, checkpoint_subject
from fastserve.search.budget import check_applies
from fastserve.search.planners import PLANNERS, OpenPlanner, Planner, Space
from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.checkpoints.task import TASKS, Task, usual_columns
from fastserve_converters.data import Table
from fastserve_converters.inputs import DataFiles
from fastserve_converters.models.sources import form_of_task
from fastserve_converters.pass_words import AskedPass, parse_passes
from fastserve_converters.programs.torch_program import TorchProgram


@dataclass(frozen=True)
class Resolved:
    """An export that may begin.

    Attributes:
        request: what was asked.
        cache_dir: where finished steps are kept.
        source: where the model is.
        checkpoint: the model that the user gave.
        tables: the user's data.
        length: tokens that the model takes: of one text, or its context; 0 of a program.
        generates: whether it generates text.
        makers: what makes artifacts, formats first.
        wanted: what each of them makes.
        device: where they are measured.
        made_notes: what the user should know of what is made and left out.
        passes: what changes the checkpoint before anything is exported, in order.
    """

    request: ExportRequest
    cache_dir: Path
    source: ModelSource
    checkpoint: Checkpoint | TorchProgram
    tables: Sequence[Table]
    length: int
    generates: bool
    makers: Sequence[Maker]
    wanted: Mapping[str, Sequence[str]]
    device: Device
    made_notes: tuple[str, ...]
    passes: tuple[AskedPass, ...] = ()

    def steps(self) -> ModelSteps:
        """Describe the steps on the model that the user gave."""
        asked = self.request
        if isinstance(self.checkpoint, TorchProgram):
            subject = ModelSubject(self.checkpoint, self.checkpoint.job_source())
        else:
            subject = self.subject_of(self.checkpoint)
        task: Task = TASKS.load(self.checkpoint.task)
        columns = asked.columns(usual_columns(task))
        data = DataSettings(asked.data, columns.text, columns.pair, columns.label, asked.seed)
        return ModelSteps(subject, data)

    def subject_of(self, checkpoint: Checkpoint) -> ModelSubject:
        """Return a checkpoint as steps work on it: the user's, or what passes made of it."""
        asked = self.request
        return checkpoint_subject(
            checkpoint, self.length, allow_pickle=asked.allow_pickle, trust_remote_code=asked.trust_remote_code
        )

    def planners(self, bench: Workbench) -> list[Planner]:
        """Return what proposes recipes, in the order in which they are asked.

        Raises:
            UsageError: there is no such planner, or what is wanted makes no sense to it under the budget.
        """
        space = Space(
            precisions={maker.name: maker.precisions for maker in self.makers},
            wanted=self.wanted,
            passes=tuple(asked.words for asked in self.passes),
            range_method=self.request.checked_range_method,
            scores=bench.scores,
            size=bench.size,
            room=bench.room,
        )
        opened: list[OpenPlanner] = [PLANNERS.load(name) for name in self.request.planners]
        return [module.open_planner(space, self.request.budget) for module in opened]

    def notes(self, reference: Entry) -> Iterator[str]:
        """Give what the user should know, in sentences, when the reference is known."""
        yield from self.made_notes
        if isinstance(self.checkpoint, TorchProgram):
            yield from reference.result["notes"]
            return
        yield from data_notes(self.request, self.tables, self.checkpoint)
        yield from quality_notes(self.request, reference, self.checkpoint, self.length)


def resolve(request: ExportRequest) -> Resolved:
    """Find the model, read what its files say of it, and refuse what cannot be exported. Nothing is loaded.

    Raises:
        UsageError: the model, a setting or the data is wrong, or the output exists.
        EnvironmentFailure: a converter or a target is missing, or a folder cannot be written.
    """
    check_request(request)
    cache_dir = request.cache_dir or default_cache_dir()
    check_places(request, cache_dir)
    passes = parse_passes(request.passes)
    source, checkpoint, tables = _model(request)
    check_passes(passes, checkpoint)
    length = 0
    if not isinstance(checkpoint, TorchProgram):
        length = export_length(checkpoint, request.sequence_length, request.context)
    form = form_of_task(checkpoint.task)
    generates = form == "cached"
    check_applies(request.budget, generates=generates)
    portable, format_notes = portable_makers(request.formats, form)
    for_targets, target_notes = target_makers(request.targets, portable, form)
    makers: list[Maker] = [*portable, *for_targets]
    wanted, precision_notes = chosen_for(makers, request.precisions)
    if isinstance(checkpoint, TorchProgram):
        wanted, left_out = judged_precisions(checkpoint, makers, wanted, request.precisions)
        precision_notes = [*precision_notes, *left_out]
    device: Device = DEVICES.load(request.device)
    notes = (*format_notes, *target_notes, *precision_notes)
    return Resolved(
        request, cache_dir, source, checkpoint, tables, length, generates, makers, wanted, device, notes, passes
    )


def _model(request: ExportRequest) -> tuple[ModelSource, Checkpoint | TorchProgram, Sequence[Table]]:
    """Return where the model comes from, what it is, and the tables of texts, all checked."""
    options = {"allow_pickle": request.allow_pickle, "trust_remote_code": request.trust_remote_code}
    if is_program(request.model):
        return find_model(request.model, **options), checked_program(request), ()
    files = DataFiles(request.data)
    check_data(request, files, None)
    source = find_model(request.model, **options)
    checkpoint = read_checkpoint(
        source.directory,
        task=request.task,
        truncate_dim=request.truncate_dim,
        pairs=request.wants_pairs,
        **options,
    )
    check_data(request, files, checkpoint)
    return source, checkpoint, files.tables if reads_tables(TASKS.load(checkpoint.task)) else ()
