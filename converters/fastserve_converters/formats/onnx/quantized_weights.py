"""Quantized weights as initializers: packed nibbles, and int8 matrices that ONNX Runtime unpacks while it loads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.formats.onnx.products import PRODUCTS
from fastserve_converters.precisions import WeightScheme
from fastserve_converters.quantization.weights import pair_sums, quantize_nearest, widened
from fastserve_converters.quantized_weight import QuantizedWeight

if TYPE_CHECKING:
    import onnx_ir as ir

_MAX = 127
_MIN_HALF, _MAX_HALF = 2.0**-14, 65504.0
"""The range in which float16 has its full precision."""


def unsigned(quantized: NDArray[np.int8], bits: int) -> NDArray[np.uint8]:
    """Move integers from the signed grid to the unsigned one that ONNX Runtime's grouped operators take."""
    moved: NDArray[np.uint8] = (quantized.astype(np.int16) + 2 ** (bits - 1)).astype(np.uint8)
    return moved


def packed(quantized: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Put two 4-bit integers into a byte along the last axis, the first in the lower half; an odd end is filled up."""
    if bits == 8:
        return quantized
    if quantized.shape[-1] % 2:
        quantized = np.concatenate([quantized, np.zeros_like(quantized[..., :1])], axis=-1)
    return (quantized[..., 0::2] | (quantized[..., 1::2] << 4)).astype(np.uint8)


def compact(scale: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
    """Return scales as float16 where that loses no more than its eleven bits, else as they are."""
    fits = bool(np.all((scale >= _MIN_HALF) & (scale <= _MAX_HALF)))
    return scale.astype(np.float16) if fits else scale


def has_one_scale_a_row(weight: QuantizedWeight) -> bool:
    """Whether the quantized weights can be multiplied as they are: int8, symmetric, a scale for each output channel."""
    return weight.scheme.bits == 8 and weight.scale.shape[1] == 1 and not weight.zero_point.any()


class Initializers:
    """Adds constants to a graph, each under a name of its own."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph

    def add(self, name: str, array: NDArray[Any]) -> ir.Value:
        """Add an array, or return the value of that name that is there already (layers may share weights)."""
        import onnx_ir as ir

        return self._register(name, ir.tensor(np.asarray(array, order="C"), name=name))

    def add_nibbles(self, name: str, quantized: NDArray[np.uint8]) -> ir.Value:
        """Add integers of 0..15 as UINT4."""
        import onnx_ir as ir

        content = packed(quantized.reshape(-1), 4)
        tensor = ir.PackedTensor(content, ir.DataType.UINT4, shape=ir.Shape(quantized.shape), name=name)
        return self._register(name, tensor)

    def _register(self, name: str, tensor: Any) -> ir.Value:
        import onnx_ir as ir

        known = self._graph.initializers.get(name)
        if known is not None:
            return known
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
        self._graph.register_initializer(value)
        return value


@dataclass(frozen=True)
class Int8Matrix:
    """A linear layer's weights for multiplication with int8 activations.

    Attributes:
        values: int8, shape [inputs, outputs]; a constant, or the output of operators on constants.
        scale: of each output channel.
    """

    values: ir.Value
    scale: NDArray[np.float32]


def int8_matrix(
    tape: Any,
    initializers: Initializers,
    name: str,
    weight: QuantizedWeight,
    factors: NDArray[np.float32] | None = None,
    *,
    scheme: WeightScheme = PRODUCTS,
) -> Int8Matrix:
    """Return the weights as int8 with one scale for each output channel.

    A matrix in another scheme is stored in it and brought to int8 by operators on constants. ONNX Runtime folds these
    while it loads the model, so that any scheme multiplies at the speed of int8 and only the file is smaller. No
    DequantizeLinear is used for it, since ONNX Runtime leaves that one unfolded.

    Args:
        tape: records nodes (`onnx_ir.tape.Tape`).
        initializers: of the graph.
        name: the layer's.
        weight: shape [outputs, inputs].
        factors: by which each input's weights are multiplied; None for 1.
        scheme: what the matrix keeps to: int8, symmetric, a scale a row.
    """
    import onnx_ir as ir

    rows, columns = weight.values.shape
    limit = scheme.pair_limit or 2 * _MAX
    if weight.scheme.bits == 8:
        is_kept = has_one_scale_a_row(weight) and factors is None and pair_sums(weight.values).max() <= limit
        reals = weight.dequantized() if factors is None else weight.dequantized() * factors
        kept = weight if is_kept else quantize_nearest(reals, scheme)
        return Int8Matrix(initializers.add(f"{name}.int8", kept.values.T), kept.scale[:, 0].astype(np.float32))
    groups = weight.scale.shape[1]
    by_group = None if factors is None else factors.astype(np.float32).reshape(1, groups, columns // groups)
    scale = _scale_of_loaded(weight, by_group, limit)
    to_float = {"to": ir.DataType.FLOAT}
    stored = unsigned(weight.values, weight.scheme.bits).reshape(rows, groups, columns // groups)
    zeros = unsigned(weight.zero_point, weight.scheme.bits)[..., None]
    steps = compact(weight.scale / scale[:, None])[..., None]
    centred = tape.op(
        "Sub",
        [
            tape.op("Cast", [initializers.add_nibbles(f"{name}.int4", stored)], to_float),
            tape.op("Cast", [initializers.add_nibbles(f"{name}.zero_point", zeros)], to_float),
        ],
    )
    scaled = tape.op("Mul", [centred, tape.op("Cast", [initializers.add(f"{name}.ratio", steps)], to_float)])
    if by_group is not None:
        scaled = tape.op("Mul", [scaled, initializers.add(f"{name}.factors", by_group)])
    shape = initializers.add(f"{name}.shape", np.array([rows, columns], np.int64))
    flat = tape.op("Reshape", [tape.op("Round", [scaled]), shape])
    quantized = tape.op("Cast", [tape.op("Clip", [flat, *_limits(initializers)])], {"to": ir.DataType.INT8})
    return Int8Matrix(tape.op("Transpose", [quantized], {"perm": [1, 0]}), scale)


def _scale_of_loaded(weight: QuantizedWeight, factors: NDArray[np.float32] | None, limit: int) -> NDArray[np.float32]:
    """Return the scale of each row whose values, as they are once ONNX Runtime has loaded them, keep to a limit.

    Args:
        weight: of fewer than eight bits.
        factors: shape [1, groups, columns of a group]; None for 1.
        limit: see `WeightScheme.pair_limit`.
    """
    rows, columns = weight.values.shape
    groups = weight.scale.shape[1]
    values = weight.values.reshape(rows, groups, columns // groups).astype(np.float32)
    centred = values - weight.zero_point[..., None].astype(np.float32)
    reals = centred * weight.scale[..., None] * (1 if factors is None else factors)

    def loaded(scale: NDArray[np.float32]) -> NDArray[np.float32]:
        scaled = centred * compact(weight.scale / scale[:, None])[..., None].astype(np.float32)
        quantized = np.rint(scaled if factors is None else scaled * factors)
        return np.clip(quantized.reshape(rows, columns), -_MAX, _MAX)

    minimum = np.maximum(np.abs(reals).max(axis=(1, 2)) / _MAX, np.float32(1e-12)).astype(np.float32)
    return widened(minimum, limit, loaded)


def _limits(initializers: Initializers) -> list[ir.Value]:
    """The ends of int8: a compact scale may be rounded up past them."""
    return [initializers.add(f"int8{end:+d}", np.array(end, np.float32)) for end in (-_MAX, _MAX)]
