"""ONNX Runtime's CPU execution provider."""

from __future__ import annotations

from fastserve_device_tests.needs import Needs
from fastserve_runtime.variants import usable_engine as engine

__all__ = ["BACKEND", "EXECUTED_BY", "FORMAT", "NAME", "PRECISIONS", "PROCESSOR", "engine", "needs"]

NAME = "onnx:cpu"
PROCESSOR = "cpu"
EXECUTED_BY = "hardware"
FORMAT = "onnx"
BACKEND = None
PRECISIONS = None


def needs() -> Needs:
    """Return nothing: an engine that is not installed is told for each variant, since some have several."""
    return Needs()
