"""LiteRT, formerly TensorFlow Lite, on the CPU with XNNPACK (package `ai-edge-litert`)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastserve_runtime.bundle.manifest import Graph, Variant
from fastserve_runtime.distributions import installed_version
from fastserve_runtime.engines._tflite import TFLiteSession, kernel_operators, open_tflite, placed_operators
from fastserve_runtime.errors import BundleError, EnvironmentFailure
from fastserve_runtime.sessions.engine_logs import native_output_logged
from fastserve_runtime.sessions.session import ModelSource

__all__ = ["FAMILY", "FORMAT", "INSTALL", "NAME", "lacking", "open_session", "placed_operators", "version"]

NAME = "litert"
FORMAT = "tflite"
FAMILY = "litert"
INSTALL = "pip install ai-edge-litert"

_logger = logging.getLogger(__name__)


def version() -> str | None:
    """Return the installed version of LiteRT."""
    return installed_version("ai-edge-litert", "ai_edge_litert")


def import_library() -> Any:
    """Import LiteRT and return its interpreter class; see `Engine.import_library`."""
    try:
        with native_output_logged(_logger):
            from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise EnvironmentFailure(f"LiteRT cannot be imported: {error}.", f"Install it: {INSTALL}.") from error
    return Interpreter


def lacking(variant: Variant) -> list[str]:  # noqa: ARG001 -- the same for every engine
    """Return none: a least version of LiteRT in the manifest stands for all operators."""
    return []


def open_session(model: ModelSource, graphs: Mapping[str, Graph] | None, *, threads: int) -> TFLiteSession:
    """Load a TFLite model; see `Engine.open_session`.

    Raises:
        BundleError: also where the file says of its operators what cannot be read.
        EnvironmentFailure: also where LiteRT would compute wrong numbers, since XNNPACK did not start.
    """
    interpreter = import_library()
    session = open_tflite(f"{NAME} {version()}", interpreter, model, graphs, threads=threads, log=_logger)
    try:
        wrong = _wrongly_computed(session.interpreter)
    except (IndexError, ValueError) as error:  # a damaged file: a name that is no UTF-8, a layer without weights
        session.close()
        raise BundleError(f"{NAME} {version()} cannot tell the model's operators: {error}.") from error
    if wrong:
        session.close()
        raise EnvironmentFailure(
            f"{NAME} {version()} would compute wrong numbers: XNNPACK did not start, and LiteRT's own kernels do not "
            f"know weights with a scale for each block of a row, which {wrong} of the model's linear layers have.",
            "Let the process see /sys, which XNNPACK needs on Arm, or take a variant of another precision, such as an "
            "int8 one.",
        )
    return session


def _wrongly_computed(interpreter: Any) -> int:
    """Return how many linear layers LiteRT's own kernels execute that have more scales than rows.

    They take the scales of blocks for those of rows.
    """
    own = [o for o in kernel_operators(interpreter._get_ops_details()) if o["op_name"] == "FULLY_CONNECTED"]
    weights = [interpreter._get_tensor_details(int(operator["inputs"][1]), 0) for operator in own]
    return sum(len(w["quantization_parameters"]["scales"]) > w["shape"][0] for w in weights)
