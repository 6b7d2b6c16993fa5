"""The stages that make a target's own artifacts, each kept in the cache by everything that decides its result.

An artifact comes from the target's own compiler, out of a portable one, or from a lowering of the torch program.
"""

from __future__ import annotations

from collections.abc import Mapping

import fastserve_device_tests
from fastserve.cache.cache import Entry
from fastserve.cache.file_digests import files_sha256
from fastserve.cache.keys import package_digest, part_digest, runtime_digest
from fastserve.pipeline.converter_process import ConverterProcess
from fastserve.pipeline.stages import MODEL_TOOLS, Stages
from fastserve.pipeline.step_inputs import entry_inputs
from fastserve.pipeline.step_names import compile_step
from fastserve.search.candidate import Candidate
from fastserve_converters.lowerings import Lowering
from fastserve_converters.models.reference import CALIBRATION, INPUTS
from fastserve_device_tests.suite.compiling import compile_in_process, compiler_versions
from fastserve_device_tests.targets import CompilingTarget, Target
from fastserve_runtime.closing import ClosedAtEnd


class TargetStages(ClosedAtEnd):
    """Does the stages for targets, or finds them done."""

    def __init__(self, stages: Stages) -> None:
        """Take the export's stages, whose cache, converter process and reporter serve here too."""
        self._stages = stages
        self._own_converters: dict[frozenset[tuple[str, str]], ConverterProcess] = {}

    def close(self) -> None:
        """End the converter processes that lowerings needed for themselves."""
        while self._own_converters:
            self._own_converters.popitem()[1].close()

    def compilation(self, target: CompilingTarget, base: Candidate) -> Entry:
        """Compile a portable artifact for a target, with the target's own compiler.

        Args:
            target: which.
            base: the candidate that has the artifact.
        """
        assert base.artifact is not None
        assert base.folder is not None
        model = base.folder / base.artifact["files"][0]
        variant = {**base.artifact, "id": base.id, "format": base.format, "precision": base.precision}
        variant |= {"golden": None, "target": None}
        key = {
            "target": target.NAME,
            "model": files_sha256([base.folder / name for name in base.artifact["files"]]),
            "variant": variant,
            "compiler": compiler_versions(target),
            "code": [package_digest(fastserve_device_tests), runtime_digest(), part_digest(target)],
        }
        step = compile_step(target.NAME, base.precision)
        return self._stages.staged(
            "compilation", step, key, lambda out: compile_in_process(target, model, variant, out)
        )

    def lowering(
        self,
        reference: Entry,
        lowering: Lowering,
        target: Target,
        precision: str,
        *,
        range_method: str,
    ) -> Entry:
        """Lower the torch program to a target's own artifact, and take the outputs of an executor that is trusted.

        Args:
            reference: the reference, which has the inputs and the calibration data.
            lowering: what lowers it.
            target: whose environment it needs.
            precision: one of the lowering's precisions.
            range_method: how the ranges of activations are found, where they are set beforehand.
        """
        plan = lowering.PRECISIONS[precision]
        needs = target.needs()
        job = {
            "job": "lowering",
            "target": lowering.TARGET,
            "precision": precision,
            "range_method": plan.range_method(range_method) if plan.has_static_ranges else plan.range_methods[0],
            "assignment": None,
        }
        names = [INPUTS, *([CALIBRATION] if plan.needs_calibration else [])]
        return self._stages.converted(
            "lowering",
            compile_step(lowering.TARGET, precision),
            job,
            {"reference": entry_inputs(reference, names)},
            tools=(*MODEL_TOOLS, *lowering.TOOLS),
            part=lowering,
            converter=self._converter_with(needs.environment),
        )

    def _converter_with(self, environment: Mapping[str, str]) -> ConverterProcess:
        """Return the converter process, or one of its own where variables must be set before it starts."""
        if not environment:
            return self._stages.converter
        own = frozenset(environment.items())
        if own not in self._own_converters:
            self._own_converters[own] = ConverterProcess(debug=self._stages.debug, environment=environment)
        return self._own_converters[own]
