"""QuantizeLinear and DequantizeLinear in a graph: which operators take them off together, and folding constant ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.formats.onnx.portable import module_of
from fastserve_converters.formats.onnx.products import PAIR_LIMIT
from fastserve_converters.formats.onnx.quantized_weights import Initializers
from fastserve_converters.quantization.weights import widened

if TYPE_CHECKING:
    import onnx_ir as ir

_PASSED_THROUGH = {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Slice", "Split", "Concat"}
"""Operators that move values and compute none: what they move is quantized for the operators behind them."""


@dataclass(frozen=True)
class QuantizedInput:
    """One input of a node that can be had quantized or in float.

    Attributes:
        node: the node.
        index: of the input.
        quantized: what it is in the quantized graph.
        real: what it is in float.
    """

    node: ir.Node
    index: int
    quantized: ir.Value
    real: ir.Value

    def connect(self, value: ir.Value) -> None:
        """Let the node take a value."""
        self.node.replace_input_with(self.index, value)


@dataclass(frozen=True)
class QuantizedGroup:
    """Operators that can only be kept in float together, since they share quantized inputs.

    Attributes:
        modules: the torch modules that they come from.
        inputs: all that is quantized of them: activations, weights and the biases that go with these.
    """

    modules: tuple[str, ...]
    inputs: tuple[QuantizedInput, ...]

    def keep_in_float(self) -> None:
        """Let the operators compute in float."""
        for each in self.inputs:
            each.connect(each.real)

    def quantize(self) -> None:
        """Undo `keep_in_float`."""
        for each in self.inputs:
            each.connect(each.quantized)


def quantized_groups(model: ir.Model, original: ir.Model, modules: Mapping[str, str]) -> list[QuantizedGroup]:
    """Return what can be kept in float alone, in the graph's order.

    Args:
        model: quantized, with weights in float in front of their QuantizeLinear.
        original: the float model that it was made from, with the same names.
        modules: tensor → torch module, for the names of operators that no layer has.
    """
    biases = _Biases(model, original)
    found: list[tuple[set[ir.Node], list[QuantizedInput]]] = []
    for node in model.graph:
        real = node.inputs[0]
        if node.op_type != "QuantizeLinear" or real is None or real.is_initializer():
            continue
        uses = [
            QuantizedInput(use.node, use.idx, dequantized.outputs[0], real)
            for dequantized in node.outputs[0].consumers()
            for use in dequantized.outputs[0].uses()
        ]
        operators = {end for use in uses for end in _ends(use.node)}
        joined = [group for group in found if group[0] & operators]
        for group in joined:
            found.remove(group)
            operators |= group[0]
            uses = group[1] + uses
        found.append((operators, uses))
    order = {node: index for index, node in enumerate(model.graph)}
    result = []
    for operators, uses in found:
        ordered = sorted(operators, key=lambda node: order[node])
        constants = [each for node in ordered for each in (*_weights(node), *biases.of(node))]
        names = tuple(dict.fromkeys(_module(node, modules) for node in ordered))
        result.append(QuantizedGroup(names, (*uses, *constants)))
    return result


def limit_pairs(model: ir.Model) -> None:
    """Enlarge the scales of weights in int8, in place, until their products come out the same in every kernel.

    See `products`. The weights are still in float in front of their QuantizeLinear.

    Args:
        model: with symmetric weights, shape [inputs, outputs], that have a scale for each output or one for all.
    """
    initializers = Initializers(model.graph)
    for node, real, scale, zero in _rounded_constants(model):
        if real.ndim != 2 or zero.dtype != np.int8 or zero.any():
            continue
        quantized = partial(_rounded_rows, real.T)
        found = widened(np.array(np.broadcast_to(scale, real.shape[1])), PAIR_LIMIT, quantized)
        while scale.size == 1 and found.min() < found.max():
            found = widened(np.full_like(found, found.max()), PAIR_LIMIT, quantized)
        enlarged = initializers.add(f"{node.outputs[0].name}/scale", found if scale.size > 1 else found[0])
        for user in (node, *node.outputs[0].consumers()):
            user.replace_input_with(1, enlarged)


def fold_weights(model: ir.Model) -> None:
    """Replace every constant that a QuantizeLinear rounds in each call by its quantized weights, in place."""
    from onnx_ir import convenience
    from onnx_ir.passes import common

    initializers = Initializers(model.graph)
    for node, real, scale, zero in _rounded_constants(model):
        shape = [1] * real.ndim
        if scale.ndim:
            shape[node.attributes["axis"].as_int() if "axis" in node.attributes else 1] = -1
        limits = np.iinfo(zero.dtype)
        quantized = np.rint(real / scale.reshape(shape)) + zero.astype(np.int32).reshape(shape if zero.ndim else ())
        values = np.clip(quantized, limits.min, limits.max).astype(zero.dtype)
        folded = initializers.add(str(node.outputs[0].name), values)
        convenience.replace_all_uses_with(node.outputs[0], folded)
        model.graph.remove(node, safe=True)
    common.RemoveUnusedNodesPass()(model)


def _rounded_constants(
    model: ir.Model,
) -> list[tuple[ir.Node, NDArray[np.float32], NDArray[np.float32], NDArray[np.integer[Any]]]]:
    """Return every QuantizeLinear of a constant: the node, the constant, its scale and its zero point."""
    from onnx_ir import convenience

    found = []
    for node in model.graph:
        if node.op_type != "QuantizeLinear":
            continue
        constants = [convenience.get_const_tensor(value) if value is not None else None for value in node.inputs[:3]]
        if all(tensor is not None for tensor in constants):
            real, scale, zero = (tensor.numpy() for tensor in constants if tensor is not None)
            found.append((node, real, scale, zero))
    return found


def _rounded_rows(rows: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round rows as QuantizeLinear does to int8 without zero points."""
    return np.asarray(np.clip(np.rint(rows / scale[:, None]), -128, 127), np.float32)


def scale_channels_behind_matmul(model: ir.Model) -> None:
    """Let one scale dequantize all channels of a layer's weights, and multiply its product by what is left, in place.

    The result is the same but for the rounding of floats. With a scale for each channel, ONNX Runtime joins MatMul and
    the bias to a Gemm, which it computes in float with weights that it dequantizes in each call; and Qualcomm's HTP has
    no operator for such a DequantizeLinear where no QuantizeLinear follows the product.
    """
    from onnx_ir.passes import common

    initializers = Initializers(model.graph)
    for node in [n for n in model.graph if n.op_type == "DequantizeLinear"]:
        scale = _channel_scale(node)
        if scale is None:
            continue
        (stored, old_scale), largest = node.inputs[:2], scale.max()
        assert stored is not None
        assert old_scale is not None
        name = str(old_scale.name)
        share = initializers.add(f"{name}/share", (scale / largest).astype(np.float32))
        zero = np.array(0, stored.dtype.numpy() if stored.dtype is not None else np.int8)
        node.replace_input_with(1, initializers.add(f"{name}/largest", np.array(largest, np.float32)))
        node.replace_input_with(2, initializers.add(f"{name}/zero", zero))
        node.attributes.pop("axis", None)
        for use in list(node.outputs[0].uses()):
            _multiply_output(model.graph, use.node, share)
    common.RemoveUnusedNodesPass()(model)


def _channel_scale(dequantize: ir.Node) -> NDArray[np.float32] | None:
    """Return the scales of stored weights by output channel, without zero points, that only MatMul multiplies."""
    from onnx_ir import convenience

    stored, *rest = dequantize.inputs
    found = [convenience.get_const_tensor(value) if value is not None else None for value in rest]
    if stored is None or not stored.is_initializer() or len(found) != 2 or stored.shape is None:
        return None
    scale, zero = (tensor.numpy() if tensor is not None else None for tensor in found)
    axis = dequantize.attributes["axis"].as_int() if "axis" in dequantize.attributes else 1
    is_by_output = scale is not None and scale.ndim == 1 and axis in {-1, len(stored.shape) - 1}
    if not is_by_output or zero is None or zero.any() or dequantize.outputs[0].is_graph_output():
        return None
    for use in dequantize.outputs[0].uses():
        if use.node.op_type != "MatMul" or use.idx != 1 or use.node.outputs[0].is_graph_output():
            return None
    return scale


def _multiply_output(graph: ir.Graph, node: ir.Node, factors: ir.Value) -> None:
    """Multiply what a node gives to all others."""
    import onnx_ir as ir

    output = node.outputs[0]
    uses = list(output.uses())
    multiplied = ir.node("Mul", [output, factors], name=f"{node.name}/channels")
    result = multiplied.outputs[0]
    result.name, output.name = output.name, f"{output.name}/unscaled"
    result.shape, result.type = output.shape, output.type
    for use in uses:
        use.node.replace_input_with(use.idx, result)
    graph.insert_after(node, multiplied)


def _ends(node: ir.Node) -> set[ir.Node]:
    """Return the operators that compute with what a node is given."""
    if node.op_type not in _PASSED_THROUGH:
        return {node}
    return {end for output in node.outputs for consumer in output.consumers() for end in _ends(consumer)}


def _weights(node: ir.Node) -> list[QuantizedInput]:
    """Return a node's inputs that are quantized constants."""
    found = []
    for index, value in enumerate(node.inputs):
        dequantize = value.producer() if value is not None else None
        if value is None or dequantize is None or dequantize.op_type != "DequantizeLinear":
            continue
        quantized = dequantize.inputs[0]
        quantize = quantized.producer() if quantized is not None else None
        real = quantize.inputs[0] if quantize is not None else None
        if real is not None and real.is_initializer():
            found.append(QuantizedInput(node, index, value, real))
    return found


def _module(node: ir.Node, modules: Mapping[str, str]) -> str:
    tensor = str(node.outputs[0].name)
    module = module_of(node.name)
    return module if "." in module else modules.get(tensor, str(node.name))


class _Biases:
    """The biases of layers from before NNCF corrected them for what rounding does, which a layer in float does not."""

    def __init__(self, model: ir.Model, original: ir.Model) -> None:
        self._initializers = Initializers(model.graph)
        self._original = original.graph.initializers

    def of(self, node: ir.Node) -> list[QuantizedInput]:
        """Return the bias that is added to a node's output, where it was corrected."""
        found = []
        for use in node.outputs[0].uses():
            for index, value in enumerate(use.node.inputs if use.node.op_type == "Add" else ()):
                before, now = self._array(value, self._original), value.const_value if value is not None else None
                if value is None or now is None or before is None or np.array_equal(before, now.numpy()):
                    continue
                real = self._initializers.add(f"{value.name}/uncorrected", before)
                found.append(QuantizedInput(use.node, index, value, real))
        return found

    def _array(self, value: ir.Value | None, initializers: Mapping[str, ir.Value]) -> NDArray[Any] | None:
        known = initializers.get(str(value.name)) if value is not None else None
        return None if known is None or known.const_value is None else known.const_value.numpy()
