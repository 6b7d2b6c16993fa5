"""Core ML on Apple's systems, which choose themselves among CPU, GPU and NPU. Nothing here executes it.

Packages are made by `export --target coreml:all`.
"""

from __future__ import annotations

from fastserve_device_tests.executors.not_opened import nothing_executes
from fastserve_device_tests.needs import Needs

NAME = "coreml:all"
PROCESSOR = "npu"
EXECUTED_BY = "compile-only"
FORMAT = "coreml"
BACKEND = None
PRECISIONS = {name: name for name in ("fp32", "fp16")}
OWN_ARTIFACT = True

engine = nothing_executes(NAME)


def needs() -> Needs:
    """Return the converter: nothing else here is of use for it."""
    return Needs(modules={"coremltools": "pip install --no-deps coremltools==9.0"})
