"""The stages of an export, each kept in the cache by everything that decides its result.

Nothing here imports PyTorch: a stage that is not in the cache is done by the converter process or the measuring
process. So a run whose stages are all cached stays light.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fastserve.cache.cache import Cache, Entry
from fastserve.cache.file_digests import files_sha256
from fastserve.cache.keys import part_digest, runtime_digest, tool_versions
from fastserve.devices import OUTPUTS, Device, MeasurementJob
from fastserve.pipeline.converter_process import ConverterProcess
from fastserve.pipeline.model_files import ModelFiles, described_source
from fastserve.pipeline.own_quality import OWN_QUALITY_NAME, OwnQuality, judged_quality
from fastserve.pipeline.progress import Reporter
from fastserve.pipeline.step_inputs import InputFolders, StepInputs, entry_inputs
from fastserve.pipeline.step_names import (
    PROGRAM_STEP,
    export_step,
    measure_step,
    quality_step,
    sensitivity_step,
    twin_step,
)
from fastserve_converters.artifact import TWIN_OUTPUTS
from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.task import TASKS, Task
from fastserve_converters.formats import FORMATS, Format, precisions_of
from fastserve_converters.models.checkpoint_source import source_of
from fastserve_converters.models.model import Form
from fastserve_converters.models.reference import CALIBRATION, INPUTS, KNOWN
from fastserve_converters.models.reference import OUTPUTS as REFERENCE_OUTPUTS
from fastserve_converters.models.sources import form_of_task
from fastserve_converters.precisions import Precision
from fastserve_converters.programs.torch_program import TorchProgram
from fastserve_converters.worker.sources_digest import sources_digest
from fastserve_runtime.conformance.comparison import Comparison
from fastserve_runtime.conformance.quality import Quality
from fastserve_runtime.engines import installed_engine
from fastserve_runtime.measurement.measurement import measurement_document

MODEL_TOOLS = ("torch", "transformers")
"""What every step on the model rests on."""
REFERENCE_TOOLS = ("torch", "transformers", "tokenizers", "numpy")


@dataclass(frozen=True)
class StageTime:
    """How long a stage took, and whether it came from the cache."""

    stage: str
    seconds: float
    cached: bool


@dataclass(frozen=True)
class DataSettings:
    """Which texts are used."""

    files: tuple[Path, ...]
    text_column: str
    text_pair_column: str | None
    label_column: str
    seed: int


@dataclass
class Stages:
    """Does stages, or finds them done.

    Attributes:
        length: tokens that the model is exported for: those of a text, or of a decoder's context; 0 of a program.
        own_quality: the user's, in the place of the task's. What it gives is not kept: nobody sees it change.
        times: what was done so far, in order.
    """

    cache: Cache
    converter: ConverterProcess
    device: Device
    reporter: Reporter
    checkpoint: Checkpoint | TorchProgram
    length: int
    allow_pickle: bool = False
    trust_remote_code: bool = False
    debug: bool = False
    own_quality: OwnQuality | None = None
    times: list[StageTime] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._folders = InputFolders(self.cache.run_folder.new)
        self._model = ModelFiles(self.checkpoint, self._folders)

    @property
    def form(self) -> Form:
        """The form of the model's part that is exported."""
        return form_of_task(self.checkpoint.task)

    def precisions(self, format_name: str) -> Mapping[str, Precision]:
        """Return what precisions a format has for this model's task."""
        exporter: Format = FORMATS.load(format_name)
        return precisions_of(exporter, self.form)

    def reference(self, data: DataSettings) -> Entry:
        """Run the original model on evaluation and golden texts."""
        job = {
            "job": "reference",
            # The ending says how a file is read.
            "data_sha256": [[f.suffix.lower(), d] for f, d in zip(data.files, files_sha256(data.files), strict=True)],
            "text_column": data.text_column,
            "text_pair_column": data.text_pair_column,
            "label_column": data.label_column,
            "seed": data.seed,
        }
        places = {"data": [str(f.absolute()) for f in data.files]}
        entry = self.converted("reference", "Reference outputs", job, {}, tools=REFERENCE_TOOLS, places=places)
        # The first job of a converter process loads PyTorch and the model, which every export needs.
        whole, load = self.times.pop(), entry.result["load_seconds"]
        self.times.append(StageTime("Load model", load, whole.cached))
        self.times.append(replace(whole, seconds=whole.seconds - load))
        return entry

    def program(self, reference: Entry) -> Entry:
        """Bring the model into the form that exporters take, proven equal to the original."""
        reads = {"reference": entry_inputs(reference, [INPUTS, REFERENCE_OUTPUTS])}
        return self.converted("program", PROGRAM_STEP, {"job": "program"}, reads, tools=MODEL_TOOLS)

    def artifact(
        self,
        reference: Entry,
        format_name: str,
        precision: str,
        *,
        base: Entry | None,
        assignment: Mapping[str, Any] | None,
        range_method: str,
    ) -> Entry:
        """Export one format and precision.

        Args:
            reference: the reference, which has the calibration data and inputs to look at the artifact with.
            format_name: which format.
            precision: one of its precisions.
            base: the artifact that this one is made from, if any.
            assignment: for a mixed precision, layer → the fields of its scheme, or None.
            range_method: how the ranges of activations are found, where they are set beforehand.
        """
        plan = self.precisions(format_name)[precision]
        exporter: Format = FORMATS.load(format_name)
        job = {
            "job": "artifact",
            "range_method": plan.range_method(range_method) if plan.has_static_ranges else plan.range_methods[0],
            "format": format_name,
            "precision": precision,
            "assignment": assignment,
            "prompts": reference.result["preprocessing"]["settings"] if self.form == "cached" else None,
        }
        reads = {"reference": self._samples(plan, reference)}
        if base is not None:
            reads["base"] = entry_inputs(base)
        return self.converted(
            "artifact",
            export_step(format_name, precision),
            job,
            reads,
            tools=(*MODEL_TOOLS, *exporter.TOOLS),
            part=exporter,
            places={"base": None},
        )

    def sensitivity(self, reference: Entry, format_name: str, precision: str) -> Entry:
        """Score every layer in the schemes that a format's mixed precision may give it."""
        exporter: Format = FORMATS.load(format_name)
        return self.converted(
            "sensitivity",
            sensitivity_step(format_name),
            {"job": "sensitivity", "format": format_name, "precision": precision},
            {"reference": entry_inputs(reference, [CALIBRATION])},
            tools=(*MODEL_TOOLS, *exporter.TOOLS),
            part=exporter,
        )

    def _samples(self, plan: Precision, reference: Entry, *, is_run: bool = False) -> StepInputs:
        """Return what a step reads of a reference for a precision.

        Args:
            plan: the precision.
            reference: has it.
            is_run: whether the step runs the model on the reference's inputs, whatever the precision.
        """
        is_looked_at = is_run or (plan.looks_at_samples and self.form == "traced")
        return entry_inputs(reference, [INPUTS] * is_looked_at + [CALIBRATION] * plan.needs_calibration)

    def measurement(
        self,
        artifact: Entry,
        reference: Entry,
        format_name: str,
        precision: str,
        *,
        threads: int,
        remeasure: bool,
    ) -> Entry:
        """Measure an artifact on the device, and take its outputs on all inputs."""
        engine = installed_engine(format_name)
        key = {
            # What is in them counts, not what they were made from: another making may give other bytes.
            "model": {name: artifact.files[name] for name in artifact.result["files"]},
            "graphs": artifact.result["graphs"],
            "inputs": reference.files[INPUTS],
            "task": self.checkpoint.task,
            "machine": self.device.machine().fingerprint,
            "engine": [engine.NAME, engine.version()],
            "threads": threads,
            "runtime": runtime_digest(),
        }
        if remeasure:
            self.cache.remove("measurement", key)

        def build(folder: Path) -> dict[str, Any]:
            job = MeasurementJob(
                task=self.checkpoint.task,
                model=artifact.folder / artifact.result["files"][0],
                format_name=format_name,
                graphs=artifact.result["graphs"],
                inputs=reference.folder / INPUTS,
                threads=threads,
                debug=self.debug,
            )
            return measurement_document(self.device.measure(folder, job))

        return self.staged("measurement", measure_step(format_name, precision), key, build)

    def quality(self, measurement: Entry, reference: Entry, format_name: str, precision: str, seed: int) -> Quality:
        """Compare an artifact's outputs on the evaluation samples with the reference's."""
        task: Task = TASKS.load(self.checkpoint.task)
        count = reference.result["evaluation"]
        if self.own_quality is not None:
            return self._own_quality(self.own_quality, measurement, reference, count)
        labels, settings = reference.result["labels"], reference.result["task_settings"]
        # What was measured when does not matter here; which outputs it gave does.
        key = {
            "outputs": measurement.files[OUTPUTS],
            "reference": {name: reference.files[name] for name in (INPUTS, REFERENCE_OUTPUTS)},
            "evaluation": count,
            "labels": labels,
            "known": reference.files.get(KNOWN),
            "settings": settings,
            "seed": seed,
            "task": [self.checkpoint.task, part_digest(task)],
            "code": [sources_digest(), runtime_digest()],
        }

        def build(_: Path) -> dict[str, Any]:
            expected, actual, inputs = (
                {name: value[:count] for name, value in read_arrays(file).items()}
                for file in (
                    reference.folder / REFERENCE_OUTPUTS,
                    measurement.folder / OUTPUTS,
                    reference.folder / INPUTS,
                )
            )
            known_inputs = inputs | known_of_windows(reference)
            return asdict(task.quality(Comparison(expected, actual, known_inputs, labels, seed, settings)))

        return Quality(**self.staged("quality", quality_step(format_name, precision), key, build).result)

    def _own_quality(self, judge: OwnQuality, measurement: Entry, reference: Entry, count: int) -> Quality:
        inputs, expected, actual = (
            {name: value[:count] for name, value in read_arrays(file).items()}
            for file in (reference.folder / INPUTS, reference.folder / REFERENCE_OUTPUTS, measurement.folder / OUTPUTS)
        )
        value = judged_quality(judge, inputs, expected, actual)
        return Quality(OWN_QUALITY_NAME, value, value, value, count)

    def twin(self, artifact: Entry, measurement: Entry, reference: Entry, format_name: str, precision: str) -> Entry:
        """Compare an artifact's outputs with those of the same quantized model elsewhere."""
        plan = self.precisions(format_name)[precision]
        outputs = entry_inputs(measurement, [OUTPUTS])
        job = {
            "job": "twin",
            "format": format_name,
            "precision": precision,
            "assignment": artifact.result["recipe"]["assignment"],
            "evaluation": reference.result["evaluation"],
            "outputs_sha256": outputs.digest,
        }
        reads = {
            "artifact": entry_inputs(artifact, [name for name in (TWIN_OUTPUTS,) if name in artifact.files]),
            "reference": self._samples(plan, reference, is_run=True),
        }
        places = {"outputs": str(measurement.folder / OUTPUTS)}
        return self.converted("twin", twin_step(format_name, precision), job, reads, tools=MODEL_TOOLS, places=places)

    def converted(
        self,
        stage: str,
        step: str,
        job: Mapping[str, Any],
        reads: Mapping[str, StepInputs],
        *,
        tools: Sequence[str],
        part: object = None,
        places: Mapping[str, Any] | None = None,
        converter: ConverterProcess | None = None,
    ) -> Entry:
        """Have the converter process do a stage on the model, where it is not in the cache.

        All that the process is told is in the key, and it gets folders of the files that are in the key and no others.

        Args:
            stage: its name in the cache.
            step: its name for the user.
            job: what the process is asked.
            reads: field of the request → the files that it finds there; the model is added to them.
            tools: distributions whose versions decide the result.
            part: the module of the format or lowering that does it, which may be a third party's.
            places: fields that say where single files are whose contents are in `job`.
            converter: which process; the export's own if left out.
        """
        process = converter or self.converter
        source = self._job_source()
        key = {
            "job": dict(job),
            "source": described_source(source),
            "model": self._model.digest,
            "reads": {name: dict(inputs.digests) for name, inputs in reads.items()},
            "tools": tool_versions(sorted(set(tools))),
            "code": [sources_digest(), part_digest(part), part_digest(TASKS.load(self.checkpoint.task))],
        }

        def build(out: Path) -> Any:
            folders = {name: str(self._folders.folder(inputs)) for name, inputs in reads.items()}
            with self._model.lent(source) as lent:
                return process.run({**job, **(places or {}), **folders, "source": lent, "out": str(out)})

        return self.staged(stage, step, key, build)

    def _job_source(self) -> Mapping[str, Any]:
        if isinstance(self.checkpoint, TorchProgram):
            return self.checkpoint.job_source()
        return source_of(
            self.checkpoint, self.length, allow_pickle=self.allow_pickle, trust_remote_code=self.trust_remote_code
        )

    def staged(self, stage: str, step: str, key: Mapping[str, Any], build: Callable[[Path], Any]) -> Entry:
        """Do a stage where it is not in the cache, and write down its time.

        Args:
            stage: its name in the cache.
            step: its name for the user.
            key: everything that decides its result.
            build: does it in a folder and returns its result.
        """
        self.reporter.start(step)
        entry = self.cache.find(stage, key)
        cached = entry is not None
        if entry is None:
            entry = self.cache.make(stage, key, build)
        self.times.append(StageTime(step, entry.seconds, cached))
        self.reporter.finish(step)
        return entry


def known_of_windows(reference: Entry) -> dict[str, Any]:
    """Return what quality is judged by beside inputs and outputs, for each evaluation window; mostly nothing."""
    return read_arrays(reference.folder / KNOWN) if KNOWN in reference.files else {}


def read_arrays(file: Path) -> dict[str, Any]:
    """Read an `.npz` file without pickles."""
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
