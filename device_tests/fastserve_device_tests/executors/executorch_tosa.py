"""TOSA's reference model, which defines what the operators of Arm's NPUs compute, on ExecuTorch programs.

The programs hand graphs in TOSA (https://www.mlplatform.org/tosa) to the backend; the reference model executes these
graphs as they stand in the file.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastserve_device_tests.executors.executorch_interpreter import (
    Arrays,
    Backend,
    Execute,
    InterpretedSession,
    open_program,
)
from fastserve_device_tests.executors.executorch_program import TensorValue
from fastserve_device_tests.processes.native_words import native_words
from fastserve_runtime.bundle.manifest import Graph, Variant
from fastserve_runtime.distributions import installed_version
from fastserve_runtime.errors import EnvironmentFailure, one_line
from fastserve_runtime.sessions.engine_logs import native_output_logged
from fastserve_runtime.sessions.session import ModelSource

NAME = "TOSA reference model"
FORMAT = "executorch"
FAMILY = "tosa-tools"
INSTALL = "pip install --no-deps tosa-tools==2026.8.0"
BACKEND = "TOSABackend"

_logger = logging.getLogger(__name__)


def version() -> str | None:
    """Return the installed version of the reference model."""
    return installed_version("tosa-tools", "tosa_reference_model")


def import_library() -> Any:
    """Import the reference model; see `Engine.import_library`."""
    try:
        with native_output_logged(_logger):
            return importlib.import_module("tosa_reference_model")
    except ImportError as error:
        raise EnvironmentFailure(f"{NAME} cannot be imported: {one_line(error)}.", f"Install it: {INSTALL}.") from error


def lacking(variant: Variant) -> list[str]:  # noqa: ARG001 -- it tells only when it runs
    """Return none: it has every operator of the specification."""
    return []


def open_session(model: ModelSource, graphs: Mapping[str, Graph] | None, *, threads: int) -> InterpretedSession:
    """Load an ExecuTorch program for TOSA; see `Engine.open_session`. Its graphs must be given."""
    return open_program(model, graphs, Backend(BACKEND, NAME, _Reference(import_library()).open), threads=threads)


class _Reference:
    def __init__(self, library: Any) -> None:
        self._library = library

    def open(self, content: bytes, _inputs: Sequence[TensorValue], _outputs: Sequence[TensorValue]) -> Execute:
        """Return what runs a TOSA graph. The reference model reads it in each call, so a damaged one fails then."""

        def run(given: Arrays) -> Arrays:
            with native_words(_logger) as words:
                try:
                    results, status = self._library.run(content, list(given))
                except (ValueError, RuntimeError) as error:
                    raise EnvironmentFailure(f"{NAME} failed while running: {one_line(error)}.") from error
            if status != self._library.GraphStatus.TOSA_VALID:
                said = next((f": {line.strip().rstrip('.')}" for line in words if "rror" in line), "")
                raise EnvironmentFailure(f"{NAME} gives the status {status.name}{said}.")
            found: Arrays = results
            return found

        return run
