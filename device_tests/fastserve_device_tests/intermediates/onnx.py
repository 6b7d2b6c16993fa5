"""ONNX: tensors become outputs of the graph.

QAttention of com.microsoft keeps the queries, keys and values that it computes to itself. They are computed once more
beside it, from its own input, integers and scales; the operator stays as it is. Its node is named by the three.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fastserve_device_tests.intermediates import Instrumented, Output
from fastserve_runtime.errors import EnvironmentFailure
from fastserve_runtime.sessions.session import ModelSource

_ATTENTION, _JOINT, _PROJECTIONS = "QAttention", " + ", 3


def instrumented(model: ModelSource, entry: str, tensors: Sequence[str]) -> Instrumented:  # noqa: ARG001 -- one graph
    """Return a model whose further outputs are these tensors; see `Intermediates`."""
    if not tensors:
        return Instrumented(model, {})
    onnx = _library()
    proto: Any = onnx.load_model(str(model)) if isinstance(model, Path) else onnx.load_model_from_string(bytes(model))
    given = {name for node in proto.graph.node for name in node.output}
    for node in [n for n in proto.graph.node if n.op_type == _ATTENTION]:
        parts = node.name.split(_JOINT)
        if len(parts) == _PROJECTIONS and given.isdisjoint(parts) and set(parts) & set(tensors):
            proto.graph.node.extend(_projections(onnx, node, parts))
            given.update(parts)
    own = {value.name for value in proto.graph.output}
    wanted = [name for name in tensors if name in given]
    # Without a type, which the engine infers.
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in own)
    return Instrumented(memoryview(proto.SerializeToString()), {name: Output(name, "float32") for name in wanted})


def _projections(onnx: Any, node: Any, parts: Sequence[str]) -> Iterator[Any]:
    """Yield operators that compute what a QAttention projects, by ai.onnx's own products of integers."""
    quantized, weight, bias, input_scale, weight_scale, _, input_zero, weight_zero = list(node.input)[:8]

    def made(kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Any:
        return onnx.helper.make_node(kind, list(inputs), list(outputs), name=f"{outputs[0]}/{kind}", **attributes)

    sums, scale, real, product, biased = (f"{node.name}/{step}" for step in ("sums", "scale", "real", "product", "all"))
    yield made("MatMulInteger", [quantized, weight, input_zero, weight_zero], [sums])
    yield made("Cast", [sums], [real], to=onnx.TensorProto.FLOAT)
    yield made("Mul", [input_scale, weight_scale], [scale])
    yield made("Mul", [real, scale], [product])
    yield made("Add", [product, bias], [biased])
    yield made("Split", [biased], parts, axis=-1, num_outputs=len(parts))


def _library() -> Any:
    try:
        return importlib.import_module("onnx")
    except ImportError as error:
        raise EnvironmentFailure(f"The package onnx cannot be imported: {error}.", "pip install onnx.") from error
