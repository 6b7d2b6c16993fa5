"""Qualcomm's Hexagon NPU by ONNX Runtime's QNN execution provider, on Qualcomm's simulator for x86.

Floats are computed in fp16 there. The package is Qualcomm's, under a licence of its own.

Its own artifact is a context binary: what the provider's compiler makes of the whole model for one chip, inside an ONNX
file with a single node. The simulator opens that too.
"""

from __future__ import annotations

import importlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

from fastserve_device_tests.compilers.compiled import Compiled, graphs_in
from fastserve_device_tests.executors.onnx_plugin_provider import PluginProvider
from fastserve_device_tests.needs import Needs
from fastserve_runtime.bundle.manifest import ExpectedPlacement, OperatorCount, Requirement, Variant
from fastserve_runtime.conformance.widths import HALF_ARITHMETIC
from fastserve_runtime.distributions import module_folder

NAME = "onnx:qnn-htp"
PROCESSOR = "npu"
EXECUTED_BY = "simulator"
FORMAT = "onnx"
BACKEND = "QNNExecutionProvider"
PRECISIONS = {"fp32": HALF_ARITHMETIC, "a16w8": "a16w8", "int8-static": "int8-static"}
COMPILED_BY = ("onnxruntime-qnn", "onnxruntime")

_MODEL = "model.onnx"
_CONTEXT = "EPContext"
_ENGINE = PluginProvider(
    "ONNX Runtime on Qualcomm's HTP",
    BACKEND,
    "onnxruntime_qnn",
    "pip install --no-deps onnxruntime-qnn==2.5.0",
)
_SNAPDRAGON_8_ELITE = "69"
_CHIP = f"Snapdragon 8 Elite (soc_model {_SNAPDRAGON_8_ELITE})"


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


def compile_model(model: Path, variant: Variant, out: Path) -> Compiled:
    """Write the context binary of a whole model; see `CompilingTarget.compile_model`."""
    engine(variant).write_context(model, out / _MODEL)
    onnx = importlib.import_module("onnx")
    nodes = onnx.load(str(out / _MODEL)).graph.node
    counts = Counter((node.domain or "ai.onnx", node.op_type) for node in nodes)
    parts = sum(count for (_, name), count in counts.items() if name == _CONTEXT)
    sizes = {"bytes": (out / _MODEL).stat().st_size, "portable_bytes": model.stat().st_size}
    taken = sum(o.count for o in variant.operators)
    return Compiled(
        format=FORMAT,
        files=(_MODEL,),
        graphs=graphs_in(_MODEL, variant.graphs),
        operators=tuple(OperatorCount(*key, 1, count) for key, count in sorted(counts.items())),
        expected_placement=ExpectedPlacement(PROCESSOR, BACKEND, parts, len(nodes)),
        requires=Requirement(_ENGINE.FAMILY, variant.requires.min_version, (BACKEND,), ()),
        report={"chip": _CHIP, "operators": {"npu": taken, "cpu": {}}, "contexts": parts, **sizes},
    )
