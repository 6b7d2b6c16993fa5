"""Qualcomm's Hexagon NPU by ONNX Runtime's QNN execution provider, on Qualcomm's simulator for x86.

Floats are computed in fp16 there. The package is Qualcomm's, under a licence of its own.
"""

from __future__ import annotations

from dataclasses import replace

from fastserve_device_tests.executors.onnx_plugin_provider import PluginProvider
from fastserve_device_tests.needs import Needs
from fastserve_runtime.engines._distribution import module_folder
from fastserve_runtime.manifest import Variant

NAME = "onnx:qnn-htp"
PROCESSOR = "npu"
EXECUTED_BY = "simulator"
FORMAT = "onnx"
BACKEND = "QNNExecutionProvider"
PRECISIONS = {"fp32": "fp16", "a16w8": "a16w8", "int8-static": "int8-static"}

_ENGINE = PluginProvider(
    "ONNX Runtime on Qualcomm's HTP",
    BACKEND,
    "onnxruntime_qnn",
    "pip install --no-deps onnxruntime-qnn==2.5.0",
)
_SNAPDRAGON_8_ELITE = "69"


def needs() -> Needs:
    """Return the provider's package."""
    return Needs(modules={"onnxruntime_qnn": _ENGINE.INSTALL})


def engine(variant: Variant) -> PluginProvider:  # noqa: ARG001 -- the same for every one
    """Return ONNX Runtime with this provider, told to compute floats in fp16: quantized files have some too."""
    options = {
        "backend_path": f"{module_folder('onnxruntime_qnn')}/libQnnHtp.so",
        # Both together: with floats of 32 bits, "Failed to finalize QNN graph" is all that it says.
        "enable_htp_fp16_precision": "1",
        "soc_model": _SNAPDRAGON_8_ELITE,
        # Else the model's first QuantizeLinear and last DequantizeLinear are left to the CPU.
        "offload_graph_io_quantization": "0",
    }
    return replace(_ENGINE, options=options)
