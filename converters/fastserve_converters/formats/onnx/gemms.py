"""Linear layers of vectors, which PyTorch's exporter writes as Gemm, as MatMul and Add like those of sequences.

All that quantizes linear layers here knows them as MatMul of a matrix [in, out].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir


def unfold_gemms(model: ir.Model) -> None:
    """Replace every Gemm of constant weights that is a linear layer, in place; scopes and sources stay."""
    import onnx_ir as ir

    graph = model.graph
    for node in [n for n in graph if n.op_type == "Gemm" and _is_linear(n)]:
        value, weight, bias = node.inputs[0], node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
        assert weight is not None
        assert weight.const_value is not None
        matrix = np.asarray(weight.const_value.numpy())
        turned = np.ascontiguousarray(matrix.T) if _flag(node, "transB") else matrix
        name = f"{weight.name}/turned"
        if name not in graph.initializers:
            constant = ir.Value(name=name, const_value=ir.tensor(turned, name=name))
            constant.shape, constant.dtype = ir.Shape(turned.shape), weight.const_value.dtype
            graph.initializers[name] = constant
        product = ir.node("MatMul", [value, graph.initializers[name]], metadata_props=dict(node.metadata_props))
        made = [product]
        if bias is not None:
            made.append(ir.node("Add", [product.outputs[0], bias], metadata_props=dict(node.metadata_props)))
            product.outputs[0].name = f"{node.outputs[0].name}/product"
        last, old = made[-1].outputs[0], node.outputs[0]
        last.name, last.shape, last.type = old.name, old.shape, old.type
        ir.convenience.replace_nodes_and_values(graph, node, [node], made, [old], [last])
        if not weight.uses():
            graph.initializers.pop(str(weight.name), None)


def _is_linear(node: ir.Node) -> bool:
    weight = node.inputs[1]
    scales = [node.attributes[name].as_float() for name in ("alpha", "beta") if name in node.attributes]
    is_constant = weight is not None and weight.const_value is not None
    return is_constant and all(scale == 1.0 for scale in scales) and not _flag(node, "transA")


def _flag(node: ir.Node, name: str) -> bool:
    return name in node.attributes and node.attributes[name].as_int() == 1
