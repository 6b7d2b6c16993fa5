"""A model in an older operator set gives what it gave, in ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fastserve_device_tests.compilers.onnx_opset import lower_opset
from fastserve_runtime.errors import BundleError

SHAPE = [2, 64]
VALUES = np.linspace(-6, 6, 128, dtype=np.float32).reshape(SHAPE)
TYPES = {np.float32: TensorProto.FLOAT, np.float16: TensorProto.FLOAT16}


def model_of(*nodes: Any, element: int = TensorProto.FLOAT, opset: int = 20, initializers: Any = ()) -> Any:
    """A model from x to y."""
    x = helper.make_tensor_value_info("x", element, SHAPE)
    y = helper.make_tensor_value_info("y", element, SHAPE)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph(list(nodes), "g", [x], [y], list(initializers))
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def outputs(model: Any, values: Any = VALUES) -> Any:
    options = onnxruntime.SessionOptions()
    # Else it makes one Gelu of the operators again, and compares that with itself.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(["y"], {"x": values})[0]


def operators(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


def opset(model: Any) -> int:
    return next(entry.version for entry in model.opset_import if entry.domain == "")


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize(("dtype", "allowed"), [(np.float32, 1e-6), (np.float16, 8e-3)])
def test_gelu_becomes_what_defines_it(approximate: str, dtype: Any, allowed: float) -> None:
    node = helper.make_node("Gelu", ["x"], ["y"], approximate=approximate)
    model, values = model_of(node, element=TYPES[dtype]), VALUES.astype(dtype)
    lowered = lower_opset(model, 19)
    onnx.checker.check_model(lowered, full_check=True)
    assert "Gelu" not in operators(lowered)
    assert ("Tanh" in operators(lowered)) == (approximate == "tanh")
    expected = outputs(model_of(node))  # ONNX Runtime has a kernel of Gelu for float32 alone
    np.testing.assert_allclose(outputs(lowered, values), expected, atol=allowed, rtol=0)


def test_several_gelus_in_a_row_keep_their_order() -> None:
    weights = numpy_helper.from_array(np.eye(64, dtype=np.float32) * 3, "w")
    nodes = [
        helper.make_node("Gelu", ["x"], ["a"]),
        helper.make_node("MatMul", ["a", "w"], ["b"]),
        helper.make_node("Gelu", ["b"], ["c"]),
        helper.make_node("Neg", ["c"], ["d"]),
        helper.make_node("Gelu", ["d"], ["y"], approximate="tanh"),
    ]
    model = model_of(*nodes, initializers=[weights])
    lowered = lower_opset(model, 19)
    onnx.checker.check_model(lowered, full_check=True)
    assert (opset(lowered), opset(model)) == (19, 20)
    assert operators(model) == ["Gelu", "MatMul", "Gelu", "Neg", "Gelu"]
    np.testing.assert_allclose(outputs(lowered), outputs(model), atol=1e-5, rtol=0)


def test_operators_that_did_not_change_stay_and_compute_the_same_bits() -> None:
    nodes = [
        helper.make_node("Softmax", ["x"], ["a"], axis=-1),
        helper.make_node("Mul", ["a", "x"], ["y"]),
    ]
    model = model_of(*nodes)
    lowered = lower_opset(model, 19)
    assert operators(lowered) == operators(model)
    assert np.array_equal(outputs(lowered), outputs(model))


@pytest.mark.parametrize("version", [17, 19])
def test_a_model_that_is_old_enough_is_returned_as_it_is(version: int) -> None:
    model = model_of(helper.make_node("Relu", ["x"], ["y"]), opset=version)
    assert lower_opset(model, 19) is model


def inner_gelu() -> Any:
    """A Gelu in a branch of an If."""
    y = helper.make_tensor_value_info("z", TensorProto.FLOAT, SHAPE)
    branch = helper.make_graph([helper.make_node("Gelu", ["x"], ["z"])], "branch", [], [y])
    return helper.make_node("If", ["condition"], ["y"], then_branch=branch, else_branch=branch)


@pytest.mark.parametrize(
    ("node", "version", "name"),
    [
        (helper.make_node("ReduceMax", ["x"], ["y"]), 20, "ReduceMax"),
        (helper.make_node("RMSNormalization", ["x", "w"], ["y"]), 23, "RMSNormalization"),
        (helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft"), 20, "com.microsoft.Gelu"),
        (helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft"), 19, "com.microsoft.Gelu"),
        (helper.make_node("NoSuchOperator", ["x"], ["y"]), 20, "NoSuchOperator"),
        (inner_gelu(), 20, "Gelu"),
    ],
)
def test_what_the_older_set_lacks_is_named(node: Any, version: int, name: str) -> None:
    with pytest.raises(BundleError, match=rf"operator set 19 lacks: {name}\."):
        lower_opset(model_of(node, opset=version), 19)
