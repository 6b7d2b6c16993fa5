"""ExecuTorch programs for Qualcomm's Hexagon NPU, compiled by Qualcomm's libraries for one chip.

Floats are computed in fp16 there. The wheel of ExecuTorch has the backend without the libraries; those of the package
`onnxruntime-qnn` take their place (`scripts/setup_qnn_executorch.sh`), and the environment of the process must name
them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fastserve_converters.formats import ExportJob
from fastserve_converters.lowerings import Lowered
from fastserve_converters.precisions import INT8, Precision
from fastserve_runtime.errors import EnvironmentFailure

if TYPE_CHECKING:
    from fastserve_converters.models.model import TracedPart

TARGET = "executorch:qnn-htp"
FORMAT = "executorch"
TOOLS = ("torch", "transformers", "executorch", "torchao", "onnxruntime-qnn", "numpy")
MODULES = ("torch", "transformers", "executorch", "torchao", "onnxruntime_qnn")

PRECISIONS: Mapping[str, Precision] = {
    "fp16": Precision(None, None, "float16"),
    "a16w8": Precision(INT8, INT8, "int16"),
    "int8-static": Precision(INT8, INT8, "int8"),
}

BACKEND = "QnnBackend"
CHIP = "Snapdragon 8 Gen 3 (SM8650)"
_ROOT = "QNN_SDK_ROOT"
_LIBRARIES = "lib/x86_64-linux-clang"


def lower(job: ExportJob[TracedPart]) -> Lowered:
    """Write `model.pte`; see `Lowering.lower`."""
    _check_environment()
    from executorch.backends.qualcomm.quantizer.quantizer import QnnQuantizer, QuantDtype
    from executorch.backends.qualcomm.serialization.qc_schema import QcomChipset
    from executorch.backends.qualcomm.utils.utils import (
        generate_htp_compiler_spec,
        generate_qnn_executorch_compiler_spec,
        to_edge_transform_and_lower_to_qnn,
    )
    from torchao.quantization.pt2e import MinMaxObserver

    from fastserve_converters.lowerings._executorch_backends import calibrated, compiling, positional, written

    program = positional(job)
    if job.precision_spec.has_static_ranges:
        is_wide = job.precision_spec.activations == "int16"
        quantizer = QnnQuantizer()
        quantizer.set_default_quant_config(
            QuantDtype.use_16a8w if is_wide else QuantDtype.use_8a8w,
            is_conv_per_channel=True,
            is_linear_per_channel=True,
            # Its own takes a moving average, in which the first samples count for nearly all.
            act_observer=MinMaxObserver,
        )
        program = calibrated(program, quantizer, job)
    compiler_spec = generate_qnn_executorch_compiler_spec(
        soc_model=QcomChipset.SM8650,
        backend_options=generate_htp_compiler_spec(use_fp16=job.precision_spec.activations == "float16"),
    )
    example = tuple(job.part.example.values())
    with compiling():
        edge = to_edge_transform_and_lower_to_qnn(program.module(check_guards=False), example, compiler_spec)
    return written(job, edge, "npu", BACKEND, program, {"chip": CHIP})


def _check_environment() -> None:
    """Refuse to go on without Qualcomm's libraries: ExecuTorch would download its own.

    Raises:
        EnvironmentFailure: they are not where the environment says.
    """
    folder = Path(os.environ.get(_ROOT) or "-") / _LIBRARIES
    if not (folder / "libQnnHtp.so").is_file():
        raise EnvironmentFailure(
            f"The environment variable {_ROOT} names no folder with Qualcomm's libraries in {_LIBRARIES}.",
            "Run: bash scripts/setup_qnn_executorch.sh, and name the folder that it makes.",
        )
