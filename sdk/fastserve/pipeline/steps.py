"""The steps of an export, described: what each is called, what it needs, and what decides its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fastserve.cache.file_digests import files_sha256
from fastserve.devices import OUTPUTS, Device
from fastserve.pipeline.step import Made, Step
from fastserve.pipeline.step_inputs import StepInputs
from fastserve.pipeline.subject import Subject
from fastserve.pipeline.work import compiling, judging, measuring
from fastserve.pipeline.work.compiling import Compiling
from fastserve.pipeline.work.converting import ConverterJob, Read
from fastserve.pipeline.work.judging import Judging
from fastserve.pipeline.work.measuring import Measuring
from fastserve_converters.artifact import FAKE_QUANT_OUTPUTS
from fastserve_converters.checkpoints.task import TASKS
from fastserve_converters.formats import FORMATS, Format, cached_exporter, precisions_of
from fastserve_converters.inputs import INPUTS as INPUT_KINDS
from fastserve_converters.lowerings import Lowering
from fastserve_converters.models.model import Form
from fastserve_converters.models.reference import CALIBRATION, INPUTS
from fastserve_converters.models.reference import OUTPUTS as REFERENCE_OUTPUTS
from fastserve_converters.models.sources import form_of_task, kind_of_task
from fastserve_converters.pass_words import AskedPass
from fastserve_converters.precisions import Precision
from fastserve_converters.recipe import Recipe
from fastserve_device_tests.targets import CompilingTarget, Target

MODEL_TOOLS = ("torch", "transformers")
"""What every step on the model rests on."""
REFERENCE_TOOLS = ("torch", "transformers", "tokenizers", "numpy")
REFERENCE = "Reference outputs"

_REFERENCE, _BASE, _ARTIFACT, _RAN = "reference", "base", "artifact", "ran"
_WORKER = "fastserve_converters.worker"
_EXPORT_SECONDS: Mapping[str, float] = {"onnx": 4, "tflite": 8, "executorch": 24}
"""Seen with a model of 22 million parameters on two cores; only their proportions matter."""
_MEASURING_ATTEMPTS = 2
"""A process that dies while it measures may have been ended for memory that others took."""


@dataclass(frozen=True)
class DataSettings:
    """Which texts are used; those that ship with FastServe if no files are named."""

    files: tuple[Path, ...] = ()
    text_column: str = "text"
    text_pair_column: str | None = None
    label_column: str = "label"
    seed: int = 0

    def in_key(self) -> dict[str, Any]:
        """Return what decides which texts a job is given; their files by content."""
        digests = files_sha256(self.files)
        return {
            # The ending says how a file is read.
            "data_sha256": [[file.suffix.lower(), digest] for file, digest in zip(self.files, digests, strict=True)],
            "text_column": self.text_column,
            "text_pair_column": self.text_pair_column,
            "label_column": self.label_column,
            "seed": self.seed,
        }

    def places(self) -> dict[str, Any]:
        """Return where a job finds the files."""
        return {"data": [str(file.absolute()) for file in self.files]}


@dataclass(frozen=True)
class ModelSteps:
    """The steps on one model: making artifacts and looking at them.

    Attributes:
        subject: the model.
        data: what it is run on.
        original: the reference that quality is judged against; None: this model's own. A model that passes changed is
            proven against its own reference, and judged against that of the model they began with.
    """

    subject: Subject
    data: DataSettings = field(default_factory=DataSettings)
    original: Step | None = None

    @property
    def form(self) -> Form:
        """The form of the model's part that is exported."""
        return form_of_task(self.subject.task)

    @cached_property
    def reference(self) -> Step:
        """Run the model on evaluation and golden texts."""
        job = {"job": "reference", **self.data.in_key()}
        places = self.data.places()
        title = REFERENCE if self.original is None else f"{REFERENCE} after passes"
        # The process hands this job to the model's source as it is: what it does in others decides nothing here.
        code = (*self._source_code, INPUT_KINDS.load(self.subject.inputs))
        work = ConverterJob(self.subject, job, code, REFERENCE_TOOLS, places=lambda _: places)
        return Step("reference", title, 15, work)

    def passed(self, asked: AskedPass) -> Step:
        """Make another checkpoint of the model's."""
        module = asked.module
        job = {"job": "pass", "pass": asked.as_document(), "seed": self.data.seed}
        code = (f"{_WORKER}.pass_job", *self._source_code, module)
        places: Mapping[str, Any] = {}
        if module.READS_SAMPLES:
            job |= self.data.in_key()
            code = (*code, INPUT_KINDS.load(self.subject.inputs))
            places = self.data.places()
        tools = (*REFERENCE_TOOLS, "safetensors", *module.TOOLS)
        work = ConverterJob(self.subject, job, code, tools, places=lambda _: places)
        return Step("pass", f"Pass {asked.words}", 10, work)

    @cached_property
    def judged_against(self) -> Step:
        """The reference of the model that the user gave."""
        return self.original or self.reference

    @cached_property
    def program(self) -> Step:
        """Bring the model into the form that exporters take, proven equal to the model."""
        reads = {_REFERENCE: Read(_REFERENCE, (INPUTS, REFERENCE_OUTPUTS))}
        work = ConverterJob(self.subject, {"job": "program"}, self._code(), MODEL_TOOLS, reads)
        return Step("program", "Form for export", 3, work, {_REFERENCE: self.reference})

    def precisions(self, format_name: str) -> Mapping[str, Precision]:
        """Return what precisions a format has for this model's task."""
        exporter: Format = FORMATS.load(format_name)
        return precisions_of(exporter, self.form)

    def export(self, recipe: Recipe, base: Step | None) -> Step:
        """Export one format and precision.

        Args:
            recipe: whose maker is a format.
            base: makes the artifact that this one is made from, if any.
        """
        plan = self.precisions(recipe.maker)[recipe.precision]
        exporter: Format = FORMATS.load(recipe.maker)
        job = {
            "job": "artifact",
            "range_method": _ranges(plan, recipe),
            "format": recipe.maker,
            "precision": recipe.precision,
            "assignment": recipe.schemes,
        }
        needs = {_REFERENCE: self.reference} | ({} if base is None else {_BASE: base})
        reads: dict[str, Read | StepInputs] = {_REFERENCE: self._samples(plan)}
        if base is not None:
            reads[_BASE] = Read(_BASE)
        work = ConverterJob(
            self.subject,
            job,
            self._code(*_exporting(exporter, self.form)),
            (*MODEL_TOOLS, *exporter.TOOLS),
            reads,
            further=self._prompts,
            places=lambda _: {} if base is not None else {_BASE: None},
        )
        weight = _EXPORT_SECONDS.get(recipe.maker, 10)
        return Step("artifact", f"Export {recipe.maker} {recipe.precision}", weight, work, needs)

    def export_with_intermediates(self, recipe: Recipe, title: str, samples: StepInputs | None) -> Step:
        """Export again: as it was exported, and so that what the file keeps inside becomes outputs.

        Args:
            recipe: whose maker is a format that can do so.
            title: what users are told.
            samples: inputs to look at the artifact with, where no calibration data is needed; else None.
        """
        exporter: Format = FORMATS.load(recipe.maker)
        job = {
            "job": "with_intermediates_artifact",
            "range_method": recipe.range_method,
            "format": recipe.maker,
            "precision": recipe.precision,
            "assignment": recipe.schemes,
            "base": None,
        }
        plan = self.precisions(recipe.maker)[recipe.precision]
        work = ConverterJob(
            self.subject,
            job,
            self._code(*_exporting(exporter, self.form)),
            (*REFERENCE_TOOLS, *exporter.TOOLS),
            {_REFERENCE: self._samples(plan, is_run=True) if samples is None else samples},
        )
        return Step("with_intermediates", title, 30, work, {_REFERENCE: self.reference} if samples is None else {})

    def sensitivity(self, format_name: str, precision: str) -> Step:
        """Score every layer in the schemes that a format's mixed precision may give it."""
        exporter: Format = FORMATS.load(format_name)
        work = ConverterJob(
            self.subject,
            {"job": "sensitivity", "format": format_name, "precision": precision},
            self._code(*_exporting(exporter, self.form)),
            (*MODEL_TOOLS, *exporter.TOOLS),
            {_REFERENCE: Read(_REFERENCE, (CALIBRATION,))},
        )
        title = f"Sensitivity of layers for {format_name}"
        return Step("sensitivity", title, 60, work, {_REFERENCE: self.reference})

    def lowering(self, recipe: Recipe, lowering: Lowering, target: Target) -> Step:
        """Lower the torch program to a target's own artifact, and take the outputs of an executor that is trusted."""
        plan = lowering.PRECISIONS[recipe.precision]
        job = {
            "job": "lowering",
            "target": lowering.TARGET,
            "precision": recipe.precision,
            "range_method": _ranges(plan, recipe),
            "assignment": None,
        }
        names = (INPUTS, *([CALIBRATION] if plan.needs_calibration else []))
        work = ConverterJob(
            self.subject,
            job,
            self._code(lowering),
            (*MODEL_TOOLS, *lowering.TOOLS),
            {_REFERENCE: Read(_REFERENCE, names)},
            environment=target.needs().environment,
        )
        return Step("lowering", _compiled(recipe), 60, work, {_REFERENCE: self.reference})

    def compilation(self, recipe: Recipe, target: CompilingTarget, base: Recipe, artifact: Step) -> Step:
        """Compile a portable artifact for a target.

        Args:
            recipe: of what is made.
            target: its compiler makes it.
            base: of the portable variant.
            artifact: makes that.
        """
        variant = {"id": base.words, "format": base.maker, "precision": base.precision}
        work = Compiling(target, variant)
        return Step("compilation", _compiled(recipe), 10, work, {compiling.ARTIFACT: artifact})

    def measurement(
        self, recipe: Recipe, artifact: Step, format_name: str, device: Device, *, threads: int, is_fresh: bool
    ) -> Step:
        """Measure an artifact on a device, and take its outputs on all inputs."""
        return Step(
            "measurement",
            f"Measure {recipe.maker} {recipe.precision}",
            12,
            Measuring(device, self.subject.task, format_name, threads),
            {measuring.ARTIFACT: artifact, measuring.REFERENCE: self.reference},
            is_fresh=is_fresh,
            attempts=_MEASURING_ATTEMPTS,
        )

    def quality(self, recipe: Recipe, ran: Step) -> Step:
        """Compare the outputs that a step gave on the evaluation samples with the original's."""
        return Step(
            "quality",
            f"Quality of {recipe.maker} {recipe.precision}",
            2,
            Judging(self.subject.task, self.data.seed),
            {judging.RAN: ran, judging.REFERENCE: self.reference, judging.ORIGINAL: self.judged_against},
        )

    def fake_quant_comparison(self, recipe: Recipe, artifact: Step, ran: Step) -> Step:
        """Compare an artifact's outputs with those of the same quantized model elsewhere."""
        plan = self.precisions(recipe.maker)[recipe.precision]
        exporter: Format = FORMATS.load(recipe.maker)
        outputs = Read(_RAN, (OUTPUTS,))

        def further(made: Made) -> Mapping[str, Any]:
            return {
                "evaluation": made[_REFERENCE].result["evaluation"],
                "outputs_sha256": outputs.inputs(made).digest,
            }

        work = ConverterJob(
            self.subject,
            {
                "job": "fake_quant_reference",
                "format": recipe.maker,
                "precision": recipe.precision,
                "assignment": recipe.schemes,
            },
            self._code(*_exporting(exporter, self.form)),
            MODEL_TOOLS,
            {_ARTIFACT: Read(_ARTIFACT, (FAKE_QUANT_OUTPUTS,)), _REFERENCE: self._samples(plan, is_run=True)},
            further=further,
            places=lambda made: {"outputs": str(made[_RAN].folder / OUTPUTS)},
        )
        title = f"Second check of {recipe.maker} {recipe.precision}"
        return Step(
            "fake_quant_reference", title, 4, work, {_REFERENCE: self.reference, _ARTIFACT: artifact, _RAN: ran}
        )

    def _prompts(self, made: Made) -> Mapping[str, Any]:
        settings = made[_REFERENCE].result["preprocessing"]["settings"]
        return {"prompts": settings if self.form == "cached" else None}

    def _samples(self, plan: Precision, *, is_run: bool = False) -> Read:
        """Return what a step reads of the reference for a precision.

        Args:
            plan: the precision.
            is_run: whether the step runs the model on the reference's inputs, whatever the precision.
        """
        is_looked_at = is_run or (plan.looks_at_samples and self.form == "traced")
        return Read(_REFERENCE, (*[INPUTS] * is_looked_at, *[CALIBRATION] * plan.needs_calibration))

    def _code(self, *parts: object) -> tuple[object, ...]:
        """Return what a job on this model runs, beside some parts."""
        return (f"{_WORKER}.__main__", *self._source_code, *parts)

    @property
    def _source_code(self) -> tuple[object, ...]:
        """What loads this model, runs it, and makes its parts."""
        return (kind_of_task(self.subject.task), TASKS.load(self.subject.task))


def _exporting(exporter: Format, form: Form) -> list[object]:
    """Return the modules of a format that export parts of a form."""
    cached = cached_exporter(exporter) if form == "cached" else None
    return [exporter] if cached is None else [exporter, cached]


def _ranges(plan: Precision, recipe: Recipe) -> str:
    """Return how a precision's ranges are found: the recipe's way counts only where they are set beforehand."""
    return plan.range_method(recipe.range_method) if plan.has_static_ranges else plan.range_methods[0]


def _compiled(recipe: Recipe) -> str:
    return f"Compile {recipe.precision} for {recipe.maker}"
