"""Layers of a program made to read quantized weights.

Linear layers as XNNPACK knows them, embeddings as ExecuTorch does.

A linear layer reads its weight through a dequantizing operator and, with dynamic activations, its input through
operators that choose a scale for each token, quantize and dequantize. XNNPACK's partitioner takes the pattern as one
integer product. The quantized weights and scales are the given ones; nothing is rounded here.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch

from fastserve_converters.precisions import WeightScheme
from fastserve_converters.quantized_weight import QuantizedWeight
from fastserve_runtime.errors import UsageError

aten = torch.ops.aten

XNNPACK_GROUP = 32
"""Groups of XNNPACK's 4-bit weights are multiples of this."""


def with_quantized_weights(
    graph_module: torch.fx.GraphModule, weights: Mapping[str, QuantizedWeight], *, dynamic_activations: bool
) -> None:
    """Make, in place, those linear layers and embeddings read quantized weights that have them.

    Args:
        graph_module: an unlifted program; weights are read from attributes named as the torch modules are.
        weights: torch module name → quantized weight.
        dynamic_activations: whether inputs of these linear layers are quantized too, by token.

    Raises:
        UsageError: no kernel reads a layer's scheme.
    """
    # Defines the embedding operators; then come their out variants.
    import executorch.exir.passes._quant_patterns_and_replacements
    import executorch.kernels.quantized  # noqa: F401

    graph = graph_module.graph
    rounded: dict[torch.fx.Node, torch.fx.Node] = {}
    for node in list(graph.nodes):
        if node.target not in {aten.linear.default, aten.embedding.default}:
            continue
        is_linear = node.target is aten.linear.default
        layer = str(node.args[1 if is_linear else 0].target).rpartition(".")[0]
        if layer not in weights:
            continue
        with graph.inserting_before(node):
            insertion = _Insertion(graph_module, layer, node)
            if not is_linear:
                node.replace_all_uses_with(insertion.lookup(weights[layer], node.args[1]))
                continue
            node.update_arg(1, insertion.weight(weights[layer]))
            if not dynamic_activations:
                insertion.separate_bias(node)
            else:
                # Layers that read one value share its quantized weights.
                value = node.args[0]
                rounded[value] = rounded.get(value) or rounded_by_token(insertion.call, value)
                node.update_arg(0, rounded[value])
    _finish(graph_module)


def with_half_embeddings(graph_module: torch.fx.GraphModule) -> None:
    """Store, in place, embeddings as float16. What is looked up becomes float32."""
    graph = graph_module.graph
    for node in list(graph.nodes):
        if node.target is not aten.embedding.default:
            continue
        name = str(node.args[0].target)
        with graph.inserting_before(node):
            insertion = _Insertion(graph_module, name.rpartition(".")[0], node)
            half = insertion.constant("half", graph_module.get_parameter(name).detach().to(torch.float16))
            found = insertion.call(aten.embedding.default, half, node.args[1])
            node.replace_all_uses_with(insertion.call(aten.to.dtype, found, torch.float32))
    _finish(graph_module)


class _Insertion:
    """Adds nodes at the graph's point of insertion on behalf of one layer."""

    def __init__(self, graph_module: torch.fx.GraphModule, layer: str, node: torch.fx.Node) -> None:
        self._module = graph_module
        self._layer = layer
        self._meta: dict[str, Any] = {
            key: node.meta[key] for key in ("nn_module_stack", "stack_trace") if key in node.meta
        }

    def weight(self, weight: QuantizedWeight) -> torch.fx.Node:
        """Add the dequantized weight of a linear layer."""
        constants = {kind: self.constant(kind, value) for kind, value in linear_constants(weight, self._layer).items()}
        made: torch.fx.Node = dequantized(self.call, constants, weight.scheme)
        return made

    def separate_bias(self, node: torch.fx.Node) -> None:
        """Add a linear layer without its bias, and the bias behind it.

        XNNPACK's kernels of integer weights and float activations would multiply the bias by the weight's scale.
        """
        if len(node.args) > 2 and node.args[2] is not None:
            product = self.call(aten.linear.default, *node.args[:2])
            node.replace_all_uses_with(self.call(aten.add.Tensor, product, node.args[2]))

    def lookup(self, weight: QuantizedWeight, indices: torch.fx.Node) -> torch.fx.Node:
        """Add the lookup in an embedding."""
        constants = {
            kind: self.constant(kind, value) for kind, value in embedding_constants(weight, self._layer).items()
        }
        # The kernels take 64-bit indices only.
        wide = self.call(aten.to.dtype, indices, torch.int64)
        made: torch.fx.Node = looked_up(self.call, constants, weight.scheme, wide)
        return made

    def constant(self, kind: str, value: torch.Tensor) -> torch.fx.Node:
        """Add the layer's constant of a kind; a layer that runs several times has it once."""
        name = f"{self._layer}_{kind}".replace(".", "_")
        if not hasattr(self._module, name):
            self._module.register_buffer(name, value.contiguous())
        return self._module.graph.get_attr(name)

    def call(self, target: Any, *arguments: Any, **keywords: Any) -> torch.fx.Node:
        """Add a call, as part of the layer."""
        made = self._module.graph.call_function(target, arguments, keywords)
        made.meta.update(self._meta)
        return made


def linear_constants(weight: QuantizedWeight, layer: str) -> dict[str, torch.Tensor]:
    """Return what a linear layer's dequantized weight is made of: `values`, `scale` and `zeros`.

    Args:
        weight: symmetric.
        layer: the layer's name, for people.

    Raises:
        UsageError: XNNPACK has no kernel for the scheme.
    """
    scheme = weight.scheme
    if not scheme.symmetric or (scheme.group is not None and (scheme.bits != 4 or scheme.group % XNNPACK_GROUP)):
        raise UsageError(
            f"XNNPACK has no linear layer with {scheme.name} weights, which '{layer}' was given.",
            f"Give it int8 or int4 with a scale a row, or int4 in groups of a multiple of {XNNPACK_GROUP}; "
            "symmetric ones.",
        )
    values, scale = torch.from_numpy(weight.values), torch.from_numpy(weight.scale)
    if scheme.group is None:
        return {"values": values, "scale": scale[:, 0], "zeros": torch.zeros(len(scale), dtype=torch.int64)}
    return {"values": values, "scale": scale, "zeros": torch.zeros(scale.shape, dtype=torch.int32)}


def dequantized(call: Callable[..., Any], constants: Mapping[str, Any], scheme: WeightScheme) -> Any:
    """Add the dequantized weight of a linear layer.

    Args:
        call: adds a call, given the operator and its arguments; or makes it.
        constants: those of `linear_constants`, as `call` takes them.
        scheme: the weight's.
    """
    operators = torch.ops.quantized_decomposed
    parts = (constants["values"], constants["scale"], constants["zeros"])
    # XNNPACK tells 4-bit weights by their range.
    span = (-8, 7, torch.int8) if scheme.bits == 4 else (-127, 127, torch.int8)
    if scheme.group is None:
        return call(operators.dequantize_per_channel.default, *parts, 0, *span)
    return call(operators.dequantize_per_channel_group.default, *parts, *span, scheme.group, torch.float32)


def embedding_constants(weight: QuantizedWeight, layer: str) -> dict[str, torch.Tensor]:
    """Return what the lookup in an embedding reads: `values`, `scale` and, if asymmetric, `zero_point`.

    Raises:
        UsageError: no kernel has the layout.
    """
    values = torch.from_numpy(weight.values)
    constants = {
        "values": values if weight.scheme.bits == 8 else packed_by_two(values, layer),
        # Scales of half the bytes; the kernels compute in float32.
        "scale": torch.from_numpy(weight.scale).to(torch.float16),
    }
    if not weight.scheme.symmetric:
        # They want zero points of the output's type, so that it is float16 as well.
        constants["zero_point"] = torch.from_numpy(weight.zero_point).to(torch.float16)
    return constants


def looked_up(call: Callable[..., Any], constants: Mapping[str, Any], scheme: WeightScheme, indices: Any) -> Any:
    """Add the lookup of rows, float32.

    Args:
        call: adds a call, given the operator and its arguments; or makes it.
        constants: those of `embedding_constants`, as `call` takes them.
        scheme: the table's.
        indices: int64.
    """
    operators = torch.ops.quantized_decomposed
    kernel = operators.embedding_byte if scheme.bits == 8 else operators.embedding_4bit
    span = (-(2 ** (scheme.bits - 1)), 2 ** (scheme.bits - 1) - 1)
    parts = (constants["values"], constants["scale"])
    if scheme.symmetric:
        return call(kernel.dtype, *parts, None, *span, indices, dtype=torch.float32)
    found = call(kernel.dtype, *parts, constants["zero_point"], *span, indices, dtype=torch.float16)
    return call(aten.to.dtype, found, torch.float32)


def rounded_by_token(call: Callable[..., Any], value: Any) -> Any:
    """Add a value's quantization with a scale and zero point for each row, and its way back.

    Args:
        call: adds a call, given the operator and its arguments; or makes it.
        value: float32, shape [..., tokens, width].
    """
    operators = torch.ops.quantized_decomposed
    chosen = call(operators.choose_qparams_per_token_asymmetric.default, value, torch.int8)
    by = (call(operator.getitem, chosen, 0), call(operator.getitem, chosen, 1), -128, 127, torch.int8)
    quantized = call(operators.quantize_per_token.default, value, *by)
    return call(operators.dequantize_per_token.default, quantized, *by, torch.float32)


def packed_by_two(values: torch.Tensor, layer: str) -> torch.Tensor:
    """Return integers of -8..7 two to a byte, as `embedding_4bit` has them: each plus 8, even columns in the high half.

    Args:
        values: int8, shape [rows, columns], an even number of columns.
        layer: the embedding's name, for people.

    Raises:
        UsageError: the columns are odd in number.
    """
    if values.shape[1] % 2:
        raise UsageError(
            f"The embedding '{layer}' of {values.shape[1]} columns cannot have two to a byte.",
            "Store it in int8.",
        )
    shifted = (values.to(torch.int16) + 8).to(torch.uint8)
    return (shifted[:, 0::2] << 4) | shifted[:, 1::2]


def _finish(graph_module: torch.fx.GraphModule) -> None:
    graph_module.graph.eliminate_dead_code()
    graph_module.delete_all_unused_submodules()
    graph_module.graph.lint()
    graph_module.recompile()
