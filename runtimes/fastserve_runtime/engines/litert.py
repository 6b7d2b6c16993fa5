"""LiteRT, formerly TensorFlow Lite, on the CPU with XNNPACK (package `ai-edge-litert`)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastserve_runtime.engine_logs import native_output_logged
from fastserve_runtime.engines._distribution import installed_version
from fastserve_runtime.engines._tflite import TFLiteSession, open_tflite, placed_operators
from fastserve_runtime.errors import EnvironmentFailure
from fastserve_runtime.manifest import Graph, Variant
from fastserve_runtime.session import ModelSource

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
    """Load a TFLite model; see `Engine.open_session`."""
    interpreter = import_library()
    return open_tflite(f"{NAME} {version()}", interpreter, model, graphs, threads=threads, log=_logger)
