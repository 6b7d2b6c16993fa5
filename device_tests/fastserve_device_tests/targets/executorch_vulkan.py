"""GPUs by ExecuTorch's Vulkan backend. The wheel of ExecuTorch compiles for it, and has no runtime of it.

Programs are lowered for it by `export --target executorch:vulkan`; one that is made for XNNPACK has nothing for it.
"""

from __future__ import annotations

from fastserve_device_tests.executors.not_opened import nothing_executes
from fastserve_device_tests.needs import Needs

NAME = "executorch:vulkan"
PROCESSOR = "gpu"
EXECUTED_BY = "compile-only"
FORMAT = "executorch"
BACKEND = "VulkanBackend"
PRECISIONS = {name: name for name in ("fp32", "fp16")}
OWN_ARTIFACT = True

engine = nothing_executes(NAME)


def needs() -> Needs:
    """Return nothing: what compiles is the converter's."""
    return Needs()
