"""Integers in groups of columns, as ONNX Runtime's MatMulNBits and GatherBlockQuantized read them.

Both read the same bytes, so that a table that is embedding and head at once is stored once. Neither knows minima of
groups: what these add to a product are the sums of the groups of what is multiplied, times the minima. MatMulNBits
would take them as zero points in floats, but is fifty times slower then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.formats.onnx.fusion import MICROSOFT
from fastserve_converters.formats.onnx.quantized_weights import Initializers, compact, packed, unsigned
from fastserve_runtime.errors import UsageError

if TYPE_CHECKING:
    import onnx_ir as ir

    from fastserve_converters.quantized_weight import QuantizedWeight

_INT8_ACTIVATIONS = 4
"""`accuracy_level` of MatMulNBits: multiply in int8, with a scale for each group of a row of activations."""
_MIN_GROUP = 16


def is_group(columns: int) -> bool:
    """Whether the operators take groups of so many columns."""
    return columns >= _MIN_GROUP and columns & (columns - 1) == 0


def grouped_product(
    tape: Any,
    initializers: Initializers,
    name: str,
    x: ir.Value,
    weight: QuantizedWeight,
    bias: ir.Value | None,
    *,
    node_name: str | None = None,
) -> ir.Value:
    """Write the product with a quantized matrix, shape [outputs, inputs], and return it.

    Args:
        tape: records nodes (`onnx_ir.tape.Tape`).
        initializers: of the graph.
        name: the layer's, which the constants are called by.
        x: what is multiplied, shape [..., inputs].
        weight: the quantized matrix.
        bias: added to it, if any.
        node_name: of the operator; the layer's if left out.
    """
    bits = weight.scheme.bits
    rows, columns = weight.values.shape
    groups = weight.scale.shape[1]
    blocks = packed(unsigned(weight.values, bits).reshape(rows, groups, -1), bits)
    # A table that was looked up before is known already: in two dimensions.
    quantized = initializers.add(f"{name}.int{bits}", blocks)
    if quantized.shape is not None and len(quantized.shape) == 2:
        sizes = np.array(blocks.shape, np.int64)
        quantized = tape.op("Reshape", [quantized, initializers.add(f"{name}.blocks", sizes)])
    has_zero_points = weight.minimum is None and weight.zero_point.any()
    product: ir.Value = tape.op(
        "MatMulNBits",
        [
            x,
            quantized,
            _in_float32(tape, initializers.add(f"{name}.scale", _halves(weight.scale))),
            _zero_points(initializers, name, weight) if has_zero_points else None,
            None,
            bias,
        ],
        {"K": columns, "N": rows, "bits": bits, "block_size": columns // groups, "accuracy_level": _INT8_ACTIVATIONS},
        domain=MICROSOFT,
        name=node_name or name,
    )
    if weight.minimum is None:
        return product
    offsets = _offsets(tape, initializers, name, weight, lambda table: table)
    size = initializers.add(f"group_{columns // groups}", np.array(columns // groups, np.float32))
    by_mean = tape.op("Transpose", [tape.op("Mul", [offsets, size])], {"perm": [1, 0]})
    beside = tape.op("MatMul", [_group_means(tape, x, columns // groups), by_mean])
    return tape.op("Add", [product, beside], name=f"{node_name or name}/minimum")  # type: ignore[no-any-return]


def grouped_rows(
    tape: Any,
    initializers: Initializers,
    name: str,
    indices: ir.Value,
    weight: QuantizedWeight,
    *,
    node_name: str | None = None,
) -> ir.Value:
    """Write the look-up of rows in a quantized embedding, and return them; arguments as for `grouped_product`.

    Raises:
        UsageError: the operator does not take groups of that size.
    """
    bits = weight.scheme.bits
    group = weight.values.shape[1] // weight.scale.shape[1]
    if not is_group(group):
        raise UsageError(
            f"ONNX Runtime has no operator for groups of {group} columns, as the embedding {name} has them.",
            f"Use groups of a power of two, {_MIN_GROUP} or more.",
        )
    halves = _halves(weight.scale)
    scale = initializers.add(f"{name}.scale", halves if halves.dtype == np.float16 else compact(weight.scale))
    has_zero_points = weight.minimum is None and weight.zero_point.any()
    # Two integers a byte rather than the type UINT4, whose kernel is seven times slower. Rows have the type of the
    # scales, and in float16 they would be rounded to it.
    rows: ir.Value = tape.op(
        "GatherBlockQuantized",
        [
            initializers.add(f"{name}.int{bits}", packed(unsigned(weight.values, bits), bits)),
            indices,
            _in_float32(tape, scale),
            _zero_points(initializers, name, weight) if has_zero_points else None,
        ],
        {"gather_axis": 0, "quantize_axis": 1, "block_size": group, "bits": bits},
        domain=MICROSOFT,
        name=node_name or name,
    )
    if weight.minimum is None:
        return rows
    offsets = _offsets(tape, initializers, name, weight, lambda table: tape.op("Gather", [table, indices]))
    by_group = tape.op("Reshape", [rows, initializers.add(f"by_{group}", np.array([0, 0, -1, group], np.int64))])
    last = initializers.add("last_axis", np.array([-1], np.int64))
    moved = tape.op("Add", [by_group, tape.op("Unsqueeze", [offsets, last])])
    return tape.op("Reshape", [moved, initializers.add("joined", np.array([0, 0, -1], np.int64))])  # type: ignore[no-any-return]


def _offsets(
    tape: Any,
    initializers: Initializers,
    name: str,
    weight: QuantizedWeight,
    pick: Callable[[ir.Value], ir.Value],
) -> ir.Value:
    """Return what is added to every column of a group where values count from the middle, as the operators do.

    It is made from the minima and the scales that are stored anyway: ONNX Runtime does so once, while it loads. `pick`
    takes the rows that are wanted from a table of shape [rows, groups].
    """
    assert weight.minimum is not None
    lowest = int(weight.zero_point.flat[0])
    assert bool((weight.zero_point == lowest).all())
    scale = _in_float32(tape, pick(initializers.add(f"{name}.scale", _halves(weight.scale))))
    minimum = _in_float32(tape, pick(initializers.add(f"{name}.minimum", _halves(weight.minimum))))
    middle = initializers.add(f"middle_{-lowest}", np.array(-lowest, np.float32))
    return tape.op("Add", [minimum, tape.op("Mul", [scale, middle])])  # type: ignore[no-any-return]


def _group_means(tape: Any, x: ir.Value, group: int) -> ir.Value:
    """Return the means of the groups of a value's last axis; those of a value that several layers share are one."""
    attributes = {"kernel_shape": [group], "strides": [group]}
    for node, _ in x.uses():
        if node.op_type == "AveragePool" and tuple(node.attributes["kernel_shape"].as_ints()) == (group,):
            return node.outputs[0]
    # Tokens take the place of channels. Reshape and ReduceSum would be two operators for the same.
    return tape.op("AveragePool", [x], attributes)  # type: ignore[no-any-return]


def _halves(values: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
    """Return numbers as float16 if that is what they are."""
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    return halves if np.array_equal(halves.astype(np.float32), values) else values


def _in_float32(tape: Any, value: ir.Value) -> ir.Value:
    """Return a value in float32; for a constant, ONNX Runtime does that while it loads."""
    import onnx_ir as ir

    if value.dtype == ir.DataType.FLOAT:
        return value
    for node, _ in value.uses():
        if node.op_type == "Cast":
            return node.outputs[0]
    return tape.op("Cast", [value], {"to": ir.DataType.FLOAT})  # type: ignore[no-any-return]


def _zero_points(initializers: Initializers, name: str, weight: QuantizedWeight) -> ir.Value:
    bits = weight.scheme.bits
    return initializers.add(f"{name}.zero_point", packed(unsigned(weight.zero_point, bits), bits))
