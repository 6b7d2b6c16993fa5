"""ExecuTorch with programs lowered to XNNPACK."""

from __future__ import annotations

from fastserve_device_tests.needs import Needs
from fastserve_runtime.variants import usable_engine as engine

__all__ = ["BACKEND", "EXECUTED_BY", "FORMAT", "NAME", "PRECISIONS", "PROCESSOR", "engine", "needs"]

NAME = "executorch:xnnpack"
PROCESSOR = "cpu"
EXECUTED_BY = "hardware"
FORMAT = "executorch"
BACKEND = "XnnpackBackend"
PRECISIONS = None


def needs() -> Needs:
    """Return nothing: an engine that is not installed is told for each variant, since some have several."""
    return Needs()
