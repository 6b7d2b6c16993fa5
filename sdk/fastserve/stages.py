"""The stages of an export, each kept in the cache by everything that decides its result.

Nothing here imports PyTorch: a stage that is not in the cache is done by the converter process or the measuring
process. So a run whose stages are all cached stays light.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fastserve.cache import Cache, Entry
from fastserve.cache_keys import part_digest, runtime_digest, tool_versions
from fastserve.converter_process import ConverterProcess
from fastserve.devices import OUTPUTS, Device, MeasurementJob
from fastserve.progress import Reporter
from fastserve.step_names import PROGRAM_STEP, export_step, measure_step, quality_step, sensitivity_step, twin_step
from fastserve_converters.checkpoint import Checkpoint, file_sha256
from fastserve_converters.formats import FORMATS, Format, precisions_of
from fastserve_converters.job_requests import source_of
from fastserve_converters.precisions import Precision
from fastserve_converters.reference import CALIBRATION
from fastserve_converters.sources_digest import sources_digest
from fastserve_converters.tasks import TASKS, Quality, Task
from fastserve_runtime.engines import installed_engine
from fastserve_runtime.retrieval import QUERY

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
        length: tokens that the model is exported for: those of a text, or of a decoder's context.
        times: what was done so far, in order.
    """

    cache: Cache
    converter: ConverterProcess
    device: Device
    reporter: Reporter
    checkpoint: Checkpoint
    length: int
    allow_pickle: bool = False
    trust_remote_code: bool = False
    debug: bool = False
    times: list[StageTime] = field(default_factory=list)

    def __post_init__(self) -> None:
        digest = hashlib.sha256()
        for file in self.checkpoint.files():
            digest.update(file.relative_to(self.checkpoint.root).as_posix().encode() + b"\0")
            digest.update(file_sha256(file).encode())
        self._model_key = {
            "model": digest.hexdigest(),
            "task": self.checkpoint.task,
            "length": self.length,
            "truncate_dim": self.checkpoint.truncate_dim,
            "pairs": self.checkpoint.takes_pairs,
            "converters": sources_digest(),
            "task_code": part_digest(TASKS.load(self.checkpoint.task)),
        }

    def precisions(self, format_name: str) -> Mapping[str, Precision]:
        """Return what precisions a format has for this model's task."""
        exporter: Format = FORMATS.load(format_name)
        task: Task = TASKS.load(self.checkpoint.task)
        return precisions_of(exporter, generates=task.GENERATES)

    def reference(self, data: DataSettings) -> Entry:
        """Run the original model on evaluation and golden texts."""
        key = {
            **self._model_key,
            "tools": tool_versions(REFERENCE_TOOLS),
            "data": [file_sha256(f) if f.is_file() else None for f in data.files],
            "columns": [data.text_column, data.text_pair_column, data.label_column],
            "seed": data.seed,
        }
        job = {
            "job": "reference",
            "data": [str(f.absolute()) for f in data.files],
            "text_column": data.text_column,
            "text_pair_column": data.text_pair_column,
            "label_column": data.label_column,
            "seed": data.seed,
        }
        entry = self.converted("reference", "Reference outputs", key, job)
        # The first job of a converter process loads PyTorch and the model, which every export needs.
        whole, load = self.times.pop(), entry.result["load_seconds"]
        self.times.append(StageTime("Load model", load, whole.cached))
        self.times.append(replace(whole, seconds=whole.seconds - load))
        return entry

    def program(self, reference: Entry) -> Entry:
        """Bring the model into the form that exporters take, proven equal to the original."""
        key = {**self._model_key, "tools": tool_versions(("torch", "transformers"))}
        return self.converted("program", PROGRAM_STEP, key, {"job": "program", "reference": str(reference.folder)})

    def artifact(
        self,
        program: Entry,
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
            program: the torch program.
            reference: the reference, which has the calibration data.
            format_name: which format.
            precision: one of its precisions.
            base: the artifact that this one is made from, if any.
            assignment: for a mixed precision, layer → the fields of its scheme, or None.
            range_method: how the ranges of activations are found, where they are set beforehand.
        """
        plan = self.precisions(format_name)[precision]
        key = {
            **self._format_key(program, format_name, precision),
            "base": None if base is None else base.key,
            "calibration": reference.files[CALIBRATION] if plan.needs_calibration else None,
            "assignment": assignment,
            "range_method": plan.range_method(range_method) if plan.has_static_ranges else None,
        }
        job = {
            "job": "artifact",
            "range_method": range_method,
            "format": format_name,
            "precision": precision,
            "base": None if base is None else str(base.folder),
            "reference": str(reference.folder),
            "assignment": assignment,
        }
        return self.converted("artifact", export_step(format_name, precision), key, job)

    def sensitivity(self, program: Entry, reference: Entry, format_name: str, precision: str) -> Entry:
        """Score every layer in the schemes that a format's mixed precision may give it."""
        key = {
            **self._format_key(program, format_name, precision),
            "calibration": reference.files[CALIBRATION],
        }
        job = {
            "job": "sensitivity",
            "format": format_name,
            "precision": precision,
            "reference": str(reference.folder),
        }
        return self.converted("sensitivity", sensitivity_step(format_name), key, job)

    def _format_key(self, program: Entry, format_name: str, precision: str) -> dict[str, Any]:
        exporter: Format = FORMATS.load(format_name)
        return {
            "program": program.key,
            "format": format_name,
            "precision": precision,
            "tools": tool_versions(exporter.TOOLS),
            "converters": sources_digest(),
            "format_code": part_digest(exporter),
        }

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
            "artifact": artifact.key,
            "reference": reference.key,
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
                inputs=reference.folder / "inputs.npz",
                threads=threads,
                debug=self.debug,
            )
            return self.device.measure(folder, job)

        return self.staged("measurement", measure_step(format_name, precision), key, build)

    def quality(self, measurement: Entry, reference: Entry, format_name: str, precision: str, seed: int) -> Quality:
        """Compare an artifact's outputs on the evaluation samples with the reference's."""
        # What was measured when does not matter here; which outputs it gave does.
        key = {
            "outputs": measurement.files[OUTPUTS],
            "reference": reference.key,
            "seed": seed,
            "code": [sources_digest(), runtime_digest()],
        }

        def build(_: Path) -> dict[str, Any]:
            task: Task = TASKS.load(self.checkpoint.task)
            count = reference.result["evaluation"]
            labels = reference.result["labels"]
            expected, actual, inputs = (
                {name: value[:count] for name, value in read_arrays(file).items()}
                for file in (
                    reference.folder / "reference.npz",
                    measurement.folder / OUTPUTS,
                    reference.folder / "inputs.npz",
                )
            )
            known = None if labels is None else np.array(labels)
            settings = reference.result["task_settings"]
            return asdict(task.quality(expected, actual, inputs | query_numbers(reference), known, seed, settings))

        return Quality(**self.staged("quality", quality_step(format_name, precision), key, build).result)

    def twin(self, artifact: Entry, measurement: Entry, reference: Entry, format_name: str, precision: str) -> Entry:
        """Compare an artifact's outputs with those of the same quantized model elsewhere."""
        key = {
            "artifact": artifact.key,
            "outputs": measurement.files[OUTPUTS],
            "reference": reference.key,
            "code": [sources_digest(), runtime_digest()],
        }
        job = {
            "job": "twin",
            "artifact": str(artifact.folder),
            "format": format_name,
            "precision": precision,
            "assignment": artifact.result["recipe"]["assignment"],
            "reference": str(reference.folder),
            "outputs": str(measurement.folder / OUTPUTS),
        }
        return self.converted("twin", twin_step(format_name, precision), key, job)

    def converted(
        self,
        stage: str,
        step: str,
        key: Mapping[str, Any],
        job: Mapping[str, Any],
        converter: ConverterProcess | None = None,
    ) -> Entry:
        """Have the converter process do a stage on the model, where it is not in the cache.

        Args:
            stage: its name in the cache.
            step: its name for the user.
            key: everything that decides its result.
            job: what the process is asked; the model and the folder are added to it.
            converter: which process; the export's own if left out.
        """
        process = converter or self.converter
        source = source_of(
            self.checkpoint, self.length, allow_pickle=self.allow_pickle, trust_remote_code=self.trust_remote_code
        )
        return self.staged(stage, step, key, lambda out: process.run({**job, "source": source, "out": str(out)}))

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


def query_numbers(reference: Entry) -> dict[str, Any]:
    """Return the number of each evaluation sample's query, where the task ranks a query's documents; else nothing."""
    numbers = reference.result.get("queries")
    return {} if numbers is None else {QUERY: np.array(numbers, np.int32)}


def read_arrays(file: Path) -> dict[str, Any]:
    """Read an `.npz` file without pickles."""
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
