"""Integers in groups of columns, as ONNX Runtime's MatMulNBits and GatherBlockQuantized read them.

Both read the same bytes, so that a table that is embedding and head at once is stored once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastserve_converters.formats.onnx.fusion import MICROSOFT
from fastserve_converters.formats.onnx.integers import Initializers, compact, packed, unsigned
from fastserve_runtime.errors import UsageError

if TYPE_CHECKING:
    import onnx_ir as ir

    from fastserve_converters.quantization.weights import QuantizedWeight

_INT8_ACTIVATIONS = 4
"""`accuracy_level` of MatMulNBits: multiply in int8, with a scale for each group of a row of activations."""
_LEAST_GROUP = 16


def is_group(columns: int) -> bool:
    """Whether the operators take groups of so many columns."""
    return columns >= _LEAST_GROUP and columns & (columns - 1) == 0


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
    """Write the product with a matrix of integers, shape [outputs, inputs], and return it.

    Args:
        tape: records nodes (`onnx_ir.tape.Tape`).
        initializers: of the graph.
        name: the layer's, which the constants are called by.
        x: what is multiplied, shape [..., inputs].
        weight: the integers.
        bias: added to it, if any.
        node_name: of the operator; the layer's if left out.
    """
    import onnx_ir as ir

    bits = weight.scheme.bits
    rows, columns = weight.values.shape
    groups = weight.scale.shape[1]
    blocks = packed(unsigned(weight.values, bits).reshape(rows, groups, -1), bits)
    # A table that was looked up before is known already: in two dimensions, with scales that may be in two bytes.
    integers = initializers.add(f"{name}.int{bits}", blocks)
    if integers.shape is not None and len(integers.shape) == 2:
        sizes = np.array(blocks.shape, np.int64)
        integers = tape.op("Reshape", [integers, initializers.add(f"{name}.blocks", sizes)])
    scale = initializers.add(f"{name}.scale", weight.scale)
    if scale.dtype == ir.DataType.FLOAT16:
        scale = tape.op("Cast", [scale], {"to": ir.DataType.FLOAT})
    product: ir.Value = tape.op(
        "MatMulNBits",
        [
            x,
            integers,
            scale,
            _zero_points(initializers, name, weight) if weight.zero_point.any() else None,
            None,
            bias,
        ],
        {"K": columns, "N": rows, "bits": bits, "block_size": columns // groups, "accuracy_level": _INT8_ACTIVATIONS},
        domain=MICROSOFT,
        name=node_name or name,
    )
    return product


def grouped_rows(
    tape: Any,
    initializers: Initializers,
    name: str,
    indices: ir.Value,
    weight: QuantizedWeight,
    *,
    node_name: str | None = None,
) -> ir.Value:
    """Write the look-up of rows in a table of integers, and return them; arguments as for `grouped_product`.

    Raises:
        UsageError: the operator does not take groups of that size.
    """
    import onnx_ir as ir

    bits = weight.scheme.bits
    group = weight.values.shape[1] // weight.scale.shape[1]
    if not is_group(group):
        raise UsageError(
            f"ONNX Runtime has no operator for groups of {group} columns, as the embedding {name} has them.",
            f"Use groups of a power of two, {_LEAST_GROUP} or more.",
        )
    scale = compact(weight.scale)
    # Two integers a byte rather than the type UINT4, whose kernel is seven times slower.
    rows: ir.Value = tape.op(
        "GatherBlockQuantized",
        [
            initializers.add(f"{name}.int{bits}", packed(unsigned(weight.values, bits), bits)),
            indices,
            initializers.add(f"{name}.scale", scale),
            _zero_points(initializers, name, weight),
        ],
        {"gather_axis": 0, "quantize_axis": 1, "block_size": group, "bits": bits},
        domain=MICROSOFT,
        name=node_name or name,
    )
    return tape.op("Cast", [rows], {"to": ir.DataType.FLOAT}) if scale.dtype == np.float16 else rows


def _zero_points(initializers: Initializers, name: str, weight: QuantizedWeight) -> ir.Value:
    bits = weight.scheme.bits
    return initializers.add(f"{name}.zero_point", packed(unsigned(weight.zero_point, bits), bits))
