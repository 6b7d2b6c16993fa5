"""Making the candidates for targets: artifacts of their own, judged by what trusted executors give.

Nothing is measured of them: the target is not this machine, and the speed of a simulator says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fastserve.cache.cache import Entry
from fastserve.cache.keys import tool_versions
from fastserve.devices import OUTPUTS
from fastserve.pipeline.progress import Step
from fastserve.pipeline.step_names import compile_step, quality_step
from fastserve.pipeline.target_stages import TargetStages
from fastserve.search.candidate import Candidate
from fastserve.search.target_plans import TargetPlan
from fastserve.search.variants import Making, artifact_size
from fastserve_converters.lowerings import load_lowering
from fastserve_device_tests.suite.compiling import compiler_versions
from fastserve_device_tests.targets import compiler_of
from fastserve_runtime.errors import DiskFull, EnvironmentFailure, UsageError

_NOT_OF_THE_MANIFEST = {"report", "format", "trusted_executor"}


def planned_target_steps(plan: TargetPlan, wanted: Sequence[str]) -> Iterator[Step]:
    """Yield the steps of `make_target_candidates`."""
    for precision in wanted:
        yield Step(compile_step(plan.name, precision), 10 if plan.base else 60)
        if plan.base is None:
            yield Step(quality_step(plan.name, precision), 2)


def make_target_candidates(
    making: Making, stages: TargetStages, plan: TargetPlan, wanted: Sequence[str], portable: Sequence[Candidate]
) -> Iterator[Candidate]:
    """Make a target's artifacts of the wanted precisions; one that cannot be made is told in its candidate.

    Args:
        making: what they are made from and judged with.
        stages: make their artifacts.
        plan: how.
        wanted: precisions that the target takes.
        portable: the candidates of the formats, measured.
    """
    for precision in wanted:
        identifier = f"{plan.name.replace(':', '-')}-{precision}"
        candidate = Candidate(identifier, plan.target.FORMAT, precision, target=plan.name)
        try:
            if plan.base is None:
                yield _lowered(making, stages, plan, candidate)
            else:
                base = next(c for c in portable if (c.format, c.precision) == (plan.base, precision))
                yield _compiled(making, stages, plan, candidate, base)
        except DiskFull:
            raise
        except (EnvironmentFailure, UsageError) as error:
            yield replace(candidate, failure=f"compiling failed: {error}")


def _compiled(
    making: Making, stages: TargetStages, plan: TargetPlan, candidate: Candidate, base: Candidate
) -> Candidate:
    """Compile a portable artifact. It is the portable one that runs here, so its outputs are what is expected."""
    if base.failure is not None:
        return replace(candidate, failure=f"it is made from {base.id}, which failed")
    assert base.artifact is not None
    target = compiler_of(plan.target)
    entry = stages.compilation(target, base)
    versions = compiler_versions(target)
    executor = f"{base.id} on {'this machine' if base.measurement is None else base.measurement.engine}"
    return replace(
        candidate,
        format=entry.result["format"],
        folder=entry.folder,
        digests=entry.files,
        artifact=_artifact(entry, {**base.artifact["recipe"], "compiler": versions}),
        outputs=base.outputs,
        quality=base.quality,
        size=artifact_size(entry, making.reference),
        compilation=_compilation(entry, versions, executor),
    )


def _lowered(making: Making, stages: TargetStages, plan: TargetPlan, candidate: Candidate) -> Candidate:
    reference = making.reference
    lowering = load_lowering(plan.name)
    entry = stages.lowering(reference, lowering, plan.target, candidate.precision, range_method=making.range_method)
    versions = tool_versions(lowering.TOOLS)
    return replace(
        candidate,
        format=lowering.FORMAT,
        folder=entry.folder,
        digests=entry.files,
        artifact=_artifact(entry, {**entry.result["recipe"], "compiler": versions}),
        outputs=entry.folder / OUTPUTS,
        quality=making.stages.quality(entry, reference, plan.name, candidate.precision, making.seed),
        size=artifact_size(entry, reference),
        compilation=_compilation(entry, versions, entry.result["trusted_executor"]),
    )


def _artifact(entry: Entry, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a manifest's variant."""
    return {**{k: v for k, v in entry.result.items() if k not in _NOT_OF_THE_MANIFEST}, "recipe": dict(recipe)}


def _compilation(entry: Entry, versions: Mapping[str, str | None], executor: str) -> dict[str, Any]:
    return {
        "compiler": dict(versions),
        "seconds": entry.seconds,
        "outputs_of": executor,
        "report": entry.result["report"],
    }
