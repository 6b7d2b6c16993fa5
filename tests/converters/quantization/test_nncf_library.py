"""NNCF is used without its telemetry, and asked for ranges by the method that is wanted."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
from onnx import helper, numpy_helper

from fastserve_converters.precisions import FP32, INT8, RANGE_METHODS, Precision
from fastserve_converters.quantization.nncf_library import exact_sessions, import_nncf, range_estimator

SCRIPT = """
import sys
from fastserve_converters.quantization.nncf_library import import_nncf
import_nncf()
import nncf.telemetry.wrapper as wrapper
print(type(wrapper.telemetry).__name__, wrapper.NNCFTelemetryStub.__name__)
"""


def test_nothing_is_reported_to_its_makers() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    used, stub = done.stdout.split()[-2:]
    assert used == stub == "MagicMock"


def test_every_method_asks_for_other_ranges() -> None:
    found = [range_estimator(method) for method in RANGE_METHODS]
    assert all(a != b for i, a in enumerate(found) for b in found[:i])


def test_a_format_without_a_method_falls_back_on_its_first() -> None:
    assert FP32.range_method("mse") == "min-max"
    assert Precision(INT8, INT8, "int8", range_methods=RANGE_METHODS).range_method("mse") == "mse"


def test_what_it_looks_at_is_the_same_on_every_processor() -> None:
    """The largest integers there are, which kernels for AVX2 cannot add up."""
    import_nncf()
    from nncf.onnx.engine import ONNXEngine

    inputs, outputs = 64, 4
    constants = {
        "one": np.array(1, np.float32),
        "zero": np.array(0, np.uint8),
        "middle": np.array(0, np.int8),
        "weight": np.full((inputs, outputs), 127, np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "one", "zero"], ["x_integers"]),
            helper.make_node("DequantizeLinear", ["x_integers", "one", "zero"], ["x_reals"]),
            helper.make_node("QuantizeLinear", ["weight", "one", "middle"], ["integers"]),
            helper.make_node("DequantizeLinear", ["integers", "one", "middle"], ["reals"]),
            helper.make_node("MatMul", ["x_reals", "reals"], ["y"]),
        ],
        "graph",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, inputs])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, outputs])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    with exact_sessions():
        engine = ONNXEngine(model)
    found = engine.infer({"x": np.full((2, inputs), 255, np.float32)})["y"]
    np.testing.assert_array_equal(found, np.full((2, outputs), 255 * 127 * inputs))
