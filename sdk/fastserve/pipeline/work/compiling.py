"""Compiling a portable artifact for a target, with the target's own compiler, in the target's process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastserve.cache.code_digests import code_digest
from fastserve.pipeline.step import Made
from fastserve.pipeline.workshop import Workshop
from fastserve_device_tests.suite.compiling import compile_in_process, compiler_versions
from fastserve_device_tests.targets import CompilingTarget

ARTIFACT = "artifact"
"""What it needs: the portable artifact."""
_PROCESS = "fastserve_device_tests.suite.compile_process"


@dataclass(frozen=True)
class Compiling:
    """Compiles.

    Attributes:
        target: for which.
        base: id, format and precision of the portable variant.
    """

    target: CompilingTarget
    base: Mapping[str, str]

    def key(self, made: Made) -> dict[str, Any]:
        """Return the portable artifact, the compiler's versions, and the code that drives it."""
        artifact = made[ARTIFACT]
        return {
            "target": self.target.NAME,
            "model": {name: artifact.files[name] for name in artifact.result["files"]},
            "variant": self._variant(made),
            "compiler": compiler_versions(self.target),
            "code": code_digest(_PROCESS, self.target),
        }

    def do(self, made: Made, out: Path, workshop: Workshop) -> Any:  # noqa: ARG002
        """Have the target's process do it."""
        artifact = made[ARTIFACT]
        model = artifact.folder / artifact.result["files"][0]
        return compile_in_process(self.target, model, self._variant(made), out)

    def _variant(self, made: Made) -> dict[str, Any]:
        return {**made[ARTIFACT].result, **self.base, "golden": None, "target": None}
