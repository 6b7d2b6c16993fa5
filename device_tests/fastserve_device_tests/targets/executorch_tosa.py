"""Arm's TOSA, the operators of its NPUs, by the reference model that defines their results bit for bit.

Programs are lowered for it by `export --target executorch:tosa`; one that is made for XNNPACK has nothing in TOSA.
"""

from __future__ import annotations

from fastserve_device_tests.executors import executorch_tosa
from fastserve_device_tests.needs import Needs
from fastserve_runtime.bundle.manifest import Variant
from fastserve_runtime.sessions.session import Engine

NAME = "executorch:tosa"
PROCESSOR = "npu"
EXECUTED_BY = "reference model"
FORMAT = "executorch"
BACKEND = executorch_tosa.BACKEND
PRECISIONS = {name: name for name in ("fp32", "int8-static", "a16w8")}
OWN_ARTIFACT = True

_SECONDS = 1800
"""The reference model is made to be right rather than fast: a small encoder takes seconds for each sample."""


def needs() -> Needs:
    """Return the reference model, and the library that reads programs."""
    return Needs(
        modules={"tosa_reference_model": executorch_tosa.INSTALL, "flatbuffers": "pip install flatbuffers"},
        seconds=_SECONDS,
    )


def engine(variant: Variant) -> Engine:  # noqa: ARG001 -- the same for every one
    """Return the reference model."""
    return executorch_tosa
