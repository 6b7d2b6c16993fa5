"""ExecuTorch programs for Arm's VGF: graphs for GPUs with neural accelerators, by the ML extensions of Vulkan.

What the compiler writes is SPIR-V in a container of Arm's. Arm's model converter, a program of its own, makes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastserve_converters.formats import ExportJob
from fastserve_converters.lowerings import Lowered
from fastserve_converters.precisions import INT8, Precision

if TYPE_CHECKING:
    from fastserve_converters.models.model import TracedPart

TARGET = "executorch:vgf"
FORMAT = "executorch"
TOOLS = ("torch", "transformers", "executorch", "torchao", "tosa-tools", "ai-ml-sdk-model-converter", "numpy")
MODULES = ("torch", "transformers", "executorch", "torchao", "tosa_serializer", "model_converter")

PRECISIONS: Mapping[str, Precision] = {
    "fp32": Precision(None, None, "float32"),
    "int8-static": Precision(INT8, INT8, "int8"),
}

BACKEND = "VgfBackend"
_SPECIFICATIONS = {"fp32": "TOSA-1.0+FP", "int8-static": "TOSA-1.0+INT"}


def lower(job: ExportJob[TracedPart]) -> Lowered:
    """Write `model.pte`; see `Lowering.lower`."""
    from executorch.backends.arm.quantizer import VgfQuantizer, get_symmetric_quantization_config
    from executorch.backends.arm.vgf import VgfCompileSpec, VgfPartitioner

    from fastserve_converters.lowerings._executorch_backends import calibrated, lowered_by, positional, written

    name = _SPECIFICATIONS[job.precision]
    compile_spec = VgfCompileSpec(name)
    program = positional(job)
    if job.precision_spec.has_static_ranges:
        quantizer = VgfQuantizer(compile_spec)
        quantizer.set_global(get_symmetric_quantization_config())
        program = calibrated(program, quantizer, job)
    edge = lowered_by(program, VgfPartitioner(compile_spec))
    return written(job, edge, "gpu", BACKEND, program, {"specification": name})
