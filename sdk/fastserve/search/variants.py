"""Making and measuring the candidates of one format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastserve.bundles.manifest_writer import shared_bytes
from fastserve.cache.cache import Entry
from fastserve.devices import OUTPUTS
from fastserve.pipeline.converter_process import JobFailed
from fastserve.pipeline.progress import Step
from fastserve.pipeline.stages import Stages
from fastserve.pipeline.step_names import export_step, measure_step, quality_step, sensitivity_step, twin_step
from fastserve.search.budget import Budget
from fastserve.search.candidate import Candidate
from fastserve.search.mixing import LEAST_ROOM, Mix, mixed_assignment
from fastserve_converters.precisions import Precision, has_twin
from fastserve_runtime.errors import DiskFull, EnvironmentFailure, UsageError
from fastserve_runtime.measurement.measurement import parse_measurement

LEAST_TWIN_SQNR_DB = 10
"""Against the same quantized model elsewhere. Engines round activations in ways of their own (a scale a tensor or a
token), which costs int8 models some 20 dB; a wrong scale, zero point or order of nibbles costs nearly all."""

_MIXED_ATTEMPTS = 3
_EXCESS_MARGIN = 1.5
"""By what a file is made smaller beyond what it was too large: another assignment has other layers in it, and formats
store more beside a layer's integers than is counted for them."""


@dataclass(frozen=True)
class Making:
    """What candidates are made from and measured with."""

    stages: Stages
    reference: Entry
    budget: Budget
    threads: int
    remeasure: bool
    seed: int
    range_method: str


def with_bases(precisions: Mapping[str, Precision], wanted: Sequence[str]) -> list[str]:
    """Return the wanted precisions and all that they are made from, each behind its base."""
    ordered: list[str] = []

    def add(name: str) -> None:
        base = precisions[name].base
        if base is not None:
            add(base)
        if name not in ordered:
            ordered.append(name)

    for name in wanted:
        add(name)
    return ordered


def planned_steps(format_name: str, precisions: Mapping[str, Precision], wanted: Sequence[str]) -> Iterator[Step]:
    """Yield the steps of `make_candidates`."""
    # Seconds seen with a model of 22 million parameters on two cores; only their proportions matter.
    expected = {"onnx": 4, "tflite": 8, "executorch": 24}
    for precision in with_bases(precisions, wanted):
        if precisions[precision].choices is not None:
            yield Step(sensitivity_step(format_name), 60)
        yield Step(export_step(format_name, precision), expected.get(format_name, 10))
        if precision in wanted:
            yield Step(measure_step(format_name, precision), 12)
            yield Step(quality_step(format_name, precision), 2)
            if has_twin(precisions[precision]):
                yield Step(twin_step(format_name, precision), 4)


def make_candidates(making: Making, format_name: str, wanted: Sequence[str]) -> Iterator[Candidate]:
    """Make and measure the wanted precisions of a format; those that they are made from are only made.

    Raises:
        JobFailed: in a way that would fail every candidate.
    """
    precisions = making.stages.precisions(format_name)
    made: dict[str, Entry] = {}
    done: list[Candidate] = []
    for precision in with_bases(precisions, wanted):
        candidate = Candidate(f"{format_name}-{precision}", format_name, precision)
        plan = precisions[precision]
        if plan.base is not None and plan.base not in made:
            candidate = replace(candidate, failure=f"it is made from {plan.base}, which failed")
        else:
            base = made[plan.base] if plan.base else None
            try:
                if plan.choices is None:
                    artifact = _artifact(making, candidate, base, None)
                else:
                    artifact = _mixed_artifact(making, candidate, base, precisions, done)
            except (EnvironmentFailure, UsageError) as error:
                if isinstance(error, DiskFull) or (isinstance(error, JobFailed) and error.stops_all):
                    raise
                candidate = replace(candidate, failure=f"export failed: {error}")
            else:
                made[precision] = artifact
                if precision not in wanted:
                    continue
                candidate = _measured(making, candidate, artifact)
        done.append(candidate)
        yield candidate


def _artifact(making: Making, candidate: Candidate, base: Entry | None, assignment: Mapping[str, Any] | None) -> Entry:
    return making.stages.artifact(
        making.reference,
        candidate.format,
        candidate.precision,
        base=base,
        assignment=assignment,
        range_method=making.range_method,
    )


def _mixed_artifact(
    making: Making,
    candidate: Candidate,
    base: Entry | None,
    precisions: Mapping[str, Precision],
    done: Sequence[Candidate],
) -> Entry:
    """Choose schemes for the layers within the budget, and again with less room if the file came out too large."""
    scores = making.stages.sensitivity(making.reference, candidate.format, candidate.precision)
    mix = Mix(scores.result, making.budget, precisions, done)
    room = int(scores.result["other_bytes"]) + LEAST_ROOM + shared_bytes(making.reference)
    for _ in range(_MIXED_ATTEMPTS):
        artifact = _artifact(making, candidate, base, mixed_assignment(mix, room))
        size = artifact_size(artifact, making.reference)
        excess = 0 if mix.most_size is None else size - mix.most_size
        if excess <= 0:
            break
        room += int(_EXCESS_MARGIN * excess)
    return artifact


def artifact_size(artifact: Entry, reference: Entry) -> int:
    """Return the bytes that a device must hold for an artifact: its files and what all variants share."""
    own: int = sum((artifact.folder / f).stat().st_size for f in artifact.result["files"])
    return own + shared_bytes(reference)


def _measured(making: Making, candidate: Candidate, artifact: Entry) -> Candidate:
    stages, reference = making.stages, making.reference
    candidate = replace(
        candidate,
        folder=artifact.folder,
        artifact=artifact.result,
        digests=artifact.files,
        size=artifact_size(artifact, reference),
    )
    try:
        entry = stages.measurement(
            artifact,
            reference,
            candidate.format,
            candidate.precision,
            threads=making.threads,
            remeasure=making.remeasure,
        )
    except DiskFull:
        raise  # the next one could not be written either
    except (EnvironmentFailure, UsageError) as error:
        return replace(candidate, failure=f"measuring failed: {error}")
    quality = stages.quality(entry, reference, candidate.format, candidate.precision, making.seed)
    candidate = replace(
        candidate, measurement=parse_measurement(entry.result), outputs=entry.folder / OUTPUTS, quality=quality
    )
    if not has_twin(stages.precisions(candidate.format)[candidate.precision]):
        return candidate
    twin = stages.twin(artifact, entry, reference, candidate.format, candidate.precision).result
    if twin["sqnr_db"] is not None and twin["sqnr_db"] < LEAST_TWIN_SQNR_DB:
        failure = (
            f"it does not compute what its weights say: SQNR {twin['sqnr_db']:.1f} dB against {twin['executor']}, at "
            f"least {LEAST_TWIN_SQNR_DB} is wanted"
        )
        return replace(candidate, twin=twin, failure=failure)
    return replace(candidate, twin=twin)
