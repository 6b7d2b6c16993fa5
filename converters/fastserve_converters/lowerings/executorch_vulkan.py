"""ExecuTorch programs for GPUs by Vulkan, in floats of 32 bits or computed in halves of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastserve_converters.formats import ExportJob
from fastserve_converters.lowerings import Lowered
from fastserve_converters.precisions import Precision

if TYPE_CHECKING:
    from fastserve_converters.models.model import TracedPart

TARGET = "executorch:vulkan"
FORMAT = "executorch"
TOOLS = ("torch", "transformers", "executorch", "torchao", "numpy")
MODULES = ("torch", "transformers", "executorch", "torchao")

PRECISIONS: Mapping[str, Precision] = {
    "fp32": Precision(None, None, "float32"),
    "fp16": Precision(None, None, "float16"),
}

BACKEND = "VulkanBackend"


def lower(job: ExportJob[TracedPart]) -> Lowered:
    """Write `model.pte`; see `Lowering.lower`."""
    from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner

    from fastserve_converters.lowerings._executorch_backends import lowered_by, positional, written

    program = positional(job)
    options = {"force_fp16": True} if job.precision_spec.activations == "float16" else {}
    edge = lowered_by(program, VulkanPartitioner(options))
    return written(job, edge, "gpu", BACKEND, program, {})
