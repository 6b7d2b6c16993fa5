"""Linear layers, embeddings and attention as ONNX Runtime's operators of the com.microsoft domain for their weights.

Works on graphs whose nodes are called by their torch modules (`portable.name_layers`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.formats.onnx.files import JOINT
from fastserve_converters.formats.onnx.fusion import MICROSOFT
from fastserve_converters.formats.onnx.grouped import grouped_product, grouped_rows, is_group
from fastserve_converters.formats.onnx.linears import Linear, find_linears, replace
from fastserve_converters.formats.onnx.portable import BIAS, module_of
from fastserve_converters.formats.onnx.quantized_weights import (
    Initializers,
    Int8Matrix,
    has_one_scale_a_row,
    int8_matrix,
    unsigned,
)
from fastserve_converters.formats.onnx.smoothing import Balancing
from fastserve_converters.precisions import INT8
from fastserve_converters.quantized_weight import QuantizedWeight

if TYPE_CHECKING:
    import onnx_ir as ir


def quantize_layers(
    model: ir.Model,
    weights: Mapping[str, QuantizedWeight],
    *,
    multiplies_int8: bool,
    balancing: Mapping[str, Balancing] | None = None,
) -> Mapping[str, int]:
    """Replace the layers that have quantized weights, in place; the others stay in float.

    Args:
        model: after `fusion.fuse`.
        weights: torch module name → quantized weight.
        multiplies_int8: activations become int8 too, with one scale for a tensor that every call finds
            (DynamicQuantizeMatMul, QAttention); else layers multiply by MatMulNBits, groups by groups.
        balancing: torch module name → what is done to the layer's input before it becomes int8. Layers of one
            attention have the same.

    Returns:
        How many of each kind were replaced.
    """
    from onnx_ir.passes import common

    balanced = balancing or {}
    counts = {"attention": 0, "linear": 0}
    linears = {linear.name: linear for linear in find_linears(model)}
    chosen = {name: weights[module_of(name)] for name in linears if module_of(name) in weights}
    if multiplies_int8:
        for node in [n for n in model.graph if n.op_type == "MultiHeadAttention"]:
            parts = _projections(node, linears)
            if parts and all(p.name in chosen for p in parts) and _fits_qattention(node, parts):
                first = module_of(parts[0].name)
                part_weights = [chosen.pop(p.name) for p in parts]
                _join_attention(model.graph, node, parts, part_weights, balanced.get(first, Balancing()).factors)
                counts["attention"] += 1
    for name, weight in chosen.items():
        if multiplies_int8:
            _write_int8_linear(model.graph, linears[name], weight, balanced.get(module_of(name), Balancing()))
        elif is_group(weight.values.shape[1] // weight.scale.shape[1]):
            _write_grouped_linear(model.graph, linears[name], weight)
        else:
            _write_unpacked_linear(model.graph, linears[name], weight)
        counts["linear"] += 1
    counts["embedding"] = quantize_embeddings(model, weights)
    common.CommonSubexpressionEliminationPass()(model)
    common.RemoveUnusedNodesPass()(model)
    return counts


def quantize_embeddings(
    model: ir.Model, weights: Mapping[str, QuantizedWeight], *, has_quantizers: bool = False
) -> int:
    """Replace the embeddings that have quantized weights, in place.

    Args:
        model: with nodes called by their torch modules.
        weights: torch module name → quantized weight.
        has_quantizers: the model has QuantizeLinear and DequantizeLinear, by which NPUs know integers; rows of one
            scale are gathered between them then.

    Returns:
        How many were replaced.
    """
    found = [n for n in model.graph if n.op_type == "Gather" and module_of(n.name) in weights]
    for node in found:
        module = module_of(node.name)
        table = node.inputs[0]
        _write_embedding(model.graph, node, weights[module], has_quantizers=has_quantizers)
        if table is not None and not table.uses():
            model.graph.initializers.pop(str(table.name), None)
    return len(found)


def _projections(attention: ir.Node, linears: Mapping[str, Linear]) -> list[Linear]:
    """Return the layers that give an attention its queries, keys and values, or nothing where others do."""
    by_output = {id(linear.output): linear for linear in linears.values()}
    found = [by_output.get(id(value)) for value in attention.inputs[:3]]
    return [f for f in found if f is not None] if all(found) else []


def _fits_qattention(attention: ir.Node, parts: Sequence[Linear]) -> bool:
    """Whether it projects one input three times to the same width and scales scores as QAttention always does."""
    widths = {p.shape[1] for p in parts}
    heads = attention.attributes["num_heads"].as_int()
    scale = attention.attributes["scale"].as_float()
    return (
        len({id(p.input) for p in parts}) == 1
        and len(widths) == 1
        and all(p.bias is not None and len(list(p.output.consumers())) == 1 for p in parts)
        and math.isclose(scale, 1 / math.sqrt(widths.pop() / heads), rel_tol=1e-5)
    )


def _join_attention(
    graph: ir.Graph,
    attention: ir.Node,
    parts: Sequence[Linear],
    weights: Sequence[QuantizedWeight],
    factors: NDArray[np.float32] | None,
) -> None:
    """Projections and attention → QAttention, which quantizes its input once for all three."""
    from onnx_ir import tape as tapes

    tape, initializers = tapes.Tape(), Initializers(graph)
    modules = [module_of(p.name) for p in parts]
    shared = JOINT.join(modules)
    if all(has_one_scale_a_row(w) for w in weights):
        joint = QuantizedWeight(
            np.concatenate([w.values for w in weights]),
            np.concatenate([w.scale for w in weights]),
            np.concatenate([w.zero_point for w in weights]),
            weights[0].scheme,
        )
        matrix = int8_matrix(tape, initializers, shared, joint, factors)
    else:
        found = [int8_matrix(tape, initializers, m, w, factors) for m, w in zip(modules, weights, strict=True)]
        values = tape.op("Concat", [f.values for f in found], {"axis": 1})
        matrix = Int8Matrix(values, np.concatenate([f.scale for f in found]))
    bias = np.concatenate([_array(p.bias) for p in parts])
    inputs = _divided(tape, initializers, shared, parts[0].input, factors)
    quantized, input_scale, input_zero = tape.op_multi_out("DynamicQuantizeLinear", [inputs], num_outputs=3)
    context = tape.op(
        "QAttention",
        [
            quantized,
            matrix.values,
            initializers.add(f"{shared}.bias", bias),
            input_scale,
            initializers.add(f"{shared}.scale", matrix.scale),
            attention.inputs[4],
            input_zero,
            initializers.add(f"zero_points_{len(bias)}", np.zeros(len(bias), np.int8)),
        ],
        {
            "num_heads": attention.attributes["num_heads"].as_int(),
            "mask_filter_value": attention.attributes["mask_filter_value"].as_float(),
        },
        domain=MICROSOFT,
        name=JOINT.join(p.name for p in parts),
    )
    replace(graph, [n for p in parts for n in p.nodes] + [attention], attention.outputs[0], tape, context)


def _write_int8_linear(graph: ir.Graph, linear: Linear, weight: QuantizedWeight, balancing: Balancing) -> None:
    from onnx_ir import tape as tapes

    tape, initializers = tapes.Tape(), Initializers(graph)
    module = module_of(linear.name)
    matrix = int8_matrix(tape, initializers, module, weight, balancing.factors)
    scale = initializers.add(f"{module}.scale", matrix.scale)
    inputs, bias, largest = _divided(tape, initializers, module, linear.input, balancing.factors), linear.bias, None
    if balancing.by_token:
        largest = tape.op("ReduceMax", [tape.op("Abs", [inputs]), initializers.add("last_axis", np.array([-1]))])
        largest = tape.op("Max", [largest, initializers.add("least_divisor", np.array(1e-12, np.float32))])
        inputs, bias = tape.op("Div", [inputs, largest]), None
    output = tape.op(
        "DynamicQuantizeMatMul", [inputs, matrix.values, scale, None, bias], domain=MICROSOFT, name=linear.name
    )
    if largest is not None:
        output = tape.op("Mul", [output, largest])
        output = output if linear.bias is None else tape.op("Add", [output, linear.bias], name=f"{linear.name}{BIAS}")
    replace(graph, linear.nodes, linear.output, tape, output)


def _divided(
    tape: Any, initializers: Initializers, name: str, value: ir.Value, factors: NDArray[np.float32] | None
) -> ir.Value:
    if factors is None:
        return value
    divided: ir.Value = tape.op("Mul", [value, initializers.add(f"{name}.inverse_factors", 1 / factors)])
    return divided


def _write_grouped_linear(graph: ir.Graph, linear: Linear, weight: QuantizedWeight) -> None:
    from onnx_ir import tape as tapes

    tape, initializers = tapes.Tape(), Initializers(graph)
    output = grouped_product(
        tape, initializers, module_of(linear.name), linear.input, weight, linear.bias, node_name=linear.name
    )
    replace(graph, linear.nodes, linear.output, tape, output)


def _write_unpacked_linear(graph: ir.Graph, linear: Linear, weight: QuantizedWeight) -> None:
    """Store int8 that becomes float while the model is loaded: for scales that no operator of groups takes."""
    import onnx_ir as ir
    from onnx_ir import tape as tapes

    tape, initializers = tapes.Tape(), Initializers(graph)
    matrix = int8_matrix(tape, initializers, module_of(linear.name), weight, scheme=INT8)
    scale = initializers.add(f"{module_of(linear.name)}.scale", matrix.scale)
    reals = tape.op("Mul", [tape.op("Cast", [matrix.values], {"to": ir.DataType.FLOAT}), scale])
    output = tape.op("MatMul", [linear.input, reals], name=f"{linear.name}/product")
    if linear.bias is not None:
        output = tape.op("Add", [output, linear.bias], name=f"{linear.name}{BIAS}")
    replace(graph, linear.nodes, linear.output, tape, output)


def _write_embedding(graph: ir.Graph, node: ir.Node, weight: QuantizedWeight, *, has_quantizers: bool) -> None:
    """One scale a row: rows and scales are gathered and multiplied; groups: GatherBlockQuantized."""
    import onnx_ir as ir
    from onnx_ir import tape as tapes

    tape, initializers = tapes.Tape(), Initializers(graph)
    module = module_of(node.name)
    indices = node.inputs[1]
    assert indices is not None
    to_float = {"to": ir.DataType.FLOAT}
    if has_one_scale_a_row(weight):
        if has_quantizers:
            rows = _gather_between_quantizers(tape, initializers, module, indices, weight)
        else:
            rows = tape.op("Gather", [initializers.add(f"{module}.int8", weight.values), indices])
            rows = tape.op("Cast", [rows], to_float)
        scales = tape.op("Gather", [initializers.add(f"{module}.scale", weight.scale), indices])
        output = tape.op("Mul", [rows, scales], name=node.name)
    else:
        output = grouped_rows(tape, initializers, module, indices, weight, node_name=node.name)
    replace(graph, [node], node.outputs[0], tape, output)


def _gather_between_quantizers(
    tape: Any, initializers: Initializers, module: str, indices: ir.Value, weight: QuantizedWeight
) -> ir.Value:
    """Gather quantized rows with a scale of 1, which rounds nothing.

    ONNX Runtime takes the operators around Gather away, and so never spells the table out, if it is unsigned: on x86 it
    makes the QuantizeLinear unsigned and would find two kinds of integers.
    """
    table = initializers.add(f"{module}.uint8", unsigned(weight.values, weight.scheme.bits))
    parameters = [
        initializers.add("uint8/one", np.array(1, np.float32)),
        initializers.add("uint8/middle", np.array(128, np.uint8)),
    ]
    gathered = tape.op("Gather", [tape.op("DequantizeLinear", [table, *parameters]), indices])
    rows: ir.Value = tape.op("DequantizeLinear", [tape.op("QuantizeLinear", [gathered, *parameters]), *parameters])
    return rows


def _array(value: ir.Value | None) -> NDArray[Any]:
    assert value is not None
    assert value.const_value is not None
    return np.asarray(value.const_value.numpy())
