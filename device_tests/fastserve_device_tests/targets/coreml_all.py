"""Core ML on Apple's systems, which choose themselves among CPU, GPU and NPU. Nothing here executes it.

Packages are made by `export --target coreml:all`.
"""

from __future__ import annotations

from fastserve_device_tests.needs import Needs
from fastserve_runtime.errors import EnvironmentFailure
from fastserve_runtime.manifest import Variant
from fastserve_runtime.session import Engine

NAME = "coreml:all"
PROCESSOR = "npu"
EXECUTED_BY = "compile-only"
FORMAT = "coreml"
BACKEND = None
PRECISIONS = {name: name for name in ("fp32", "fp16")}
OWN_ARTIFACT = True


def needs() -> Needs:
    """Return the converter: nothing else here is of use for it."""
    return Needs(modules={"coremltools": "pip install --no-deps coremltools==9.0"})


def engine(variant: Variant) -> Engine:
    """Refuse: nothing here executes it."""
    raise EnvironmentFailure(f"Nothing here executes variant '{variant.id}' on {NAME}.", "Run it on the device.")
