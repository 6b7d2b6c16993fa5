"""ExecuTorch programs for Arm's TOSA: the operators of its NPUs, in integers or in floats of 32 bits.

What the compiler writes is a graph in TOSA, from which the compilers of chips go on. Token ids are looked up inside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastserve_converters.formats import ExportJob
from fastserve_converters.lowerings import Lowered
from fastserve_converters.precisions import INT8, Precision

if TYPE_CHECKING:
    from fastserve_converters.models.model import TracedPart

TARGET = "executorch:tosa"
FORMAT = "executorch"
TOOLS = ("torch", "transformers", "executorch", "torchao", "tosa-tools", "numpy")
MODULES = ("torch", "transformers", "executorch", "torchao", "tosa_serializer")

PRECISIONS: Mapping[str, Precision] = {
    "fp32": Precision(None, None, "float32"),
    "int8-static": Precision(INT8, INT8, "int8"),
    "a16w8": Precision(INT8, INT8, "int16"),
}

BACKEND = "TOSABackend"
_SPECIFICATIONS = {"fp32": "TOSA-1.0+FP", "int8-static": "TOSA-1.0+INT", "a16w8": "TOSA-1.0+INT+int16"}


def lower(job: ExportJob[TracedPart]) -> Lowered:
    """Write `model.pte`; see `Lowering.lower`."""
    from executorch.backends.arm.quantizer import (
        TOSAQuantizer,
        get_symmetric_a16w8_quantization_config,
        get_symmetric_quantization_config,
    )
    from executorch.backends.arm.tosa import TosaSpecification
    from executorch.backends.arm.tosa.compile_spec import TosaCompileSpec
    from executorch.backends.arm.tosa.partitioner import TOSAPartitioner

    from fastserve_converters.lowerings._executorch_backends import calibrated, lowered_by, positional, written

    name = _SPECIFICATIONS[job.precision]
    compile_spec = TosaCompileSpec(TosaSpecification.create_from_string(name))
    program = positional(job)
    if job.precision_spec.has_static_ranges:
        is_wide = job.precision_spec.activations == "int16"
        quantizer = TOSAQuantizer(compile_spec)
        quantizer.set_global(
            get_symmetric_a16w8_quantization_config() if is_wide else get_symmetric_quantization_config()
        )
        program = calibrated(program, quantizer, job)
    edge = lowered_by(program, TOSAPartitioner(compile_spec))
    return written(job, edge, "npu", BACKEND, program, {"specification": name})
