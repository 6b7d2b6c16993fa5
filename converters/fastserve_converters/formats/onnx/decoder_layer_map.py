"""The layer map of a decoder's graph: which tensors hold what the common form computes.

The graph is written with the names of the form's modules (`decoder_graph`), by which their nodes are found here. What
attention gives is what its output projection takes, as that is of the form's own width.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fastserve_converters.layer_map import IntermediateOutput, ProgramNode, group_by_module, write_layer_map
from fastserve_converters.models.decoder.form import Activation, Block, DecoderForm, GatedFeedForward, RmsNorm

if TYPE_CHECKING:
    import onnx_ir as ir

_MIXED = 1
"""The second product of `WholeSequence`, of weights and values; the first is of queries and keys."""
_SCALED = 2
"""The product of `RmsNorm` with its weight, behind a square and a division."""
_SUM = 3
"""Which output of ONNX Runtime's operators that add before they norm is the sum."""
_ACTIVATIONS: dict[Activation, str] = {torch.nn.functional.silu: "silu", torch.nn.functional.relu: "relu"}


def write_decoder_layer_map(folder: Path, model: ir.Model, form: DecoderForm) -> None:
    """Write the layer map of a decoder's graph beside the artifact.

    Args:
        folder: the artifact's.
        model: the graph, whose values have their names.
        form: what it was written from.
    """
    intermediates = list(_Finder(model, form).found())
    modules = {name for name, _ in form.named_modules()}
    constants = [(name.rpartition(".")[0], name) for name in model.graph.initializers]
    tensors = [(module, str(name)) for module, name in constants if module in modules]
    tensors += [(i.program_node.module, i.tensor) for i in intermediates]
    write_layer_map(folder, group_by_module(tensors), intermediates)


class _Finder:
    """Finds tensors by the names of nodes."""

    def __init__(self, model: ir.Model, form: DecoderForm) -> None:
        self._form = form
        self._nodes: dict[str, ir.Node] = {}
        for node in model.graph:
            # The last node of a layer, behind a slash what it adds, gives its output.
            self._nodes[(node.name or "").partition("/")[0]] = node
            self._nodes.setdefault(f"{(node.name or '').partition('/')[0]}/first", node)

    def found(self) -> Iterator[IntermediateOutput]:
        """Yield the intermediate outputs in the order in which the form runs."""
        form = self._form
        yield self._embedded()
        following = [*(f"blocks.{number}.attention_norm" for number in range(1, len(form.layers))), "norm"]
        for number, (block, behind) in enumerate(zip(form.layers, following, strict=True)):
            yield from self._block(block, f"blocks.{number}", behind)
        yield self._norm(form.norm, "norm")
        yield self._linear("head")

    def _embedded(self) -> IntermediateOutput:
        form = self._form
        if form.positions is not None:
            node = ProgramNode("", "add", 0)
        elif form.embedding_scale != 1.0:
            node = ProgramNode("", "mul", 0)
        else:
            node = ProgramNode("embedding", "embedding", 0)
        return self._taken("blocks.0.attention_norm", node)

    def _block(self, block: Block, name: str, following: str) -> Iterator[IntermediateOutput]:
        attention, fed = f"{name}.attention", f"{name}.feed_forward"
        yield self._norm(block.attention_norm, f"{name}.attention_norm")
        yield self._linear(f"{attention}.qkv")
        for part in ("query_norm", "key_norm"):
            norm = getattr(block.attention, part)
            if norm is not None:
                yield self._norm(norm, f"{attention}.{part}")
        yield self._taken(f"{attention}.output", ProgramNode(attention, "einsum", _MIXED))
        yield self._linear(f"{attention}.output")
        if block.attention_post_norm is not None:
            yield self._norm(block.attention_post_norm, f"{name}.attention_post_norm")
        yield self._sum(f"{name}.feed_forward_norm", ProgramNode(name, "add", 0))
        yield self._norm(block.feed_forward_norm, f"{name}.feed_forward_norm")
        yield from self._feed_forward(block.feed_forward, fed)
        yield self._linear(f"{fed}.down")
        if block.feed_forward_post_norm is not None:
            yield self._norm(block.feed_forward_post_norm, f"{name}.feed_forward_post_norm")
        yield self._sum(following, ProgramNode(name, "add", 1))

    def _feed_forward(self, module: torch.nn.Module, name: str) -> Iterator[IntermediateOutput]:
        down = f"{name}.down"
        activation = ProgramNode(name, _ACTIVATIONS.get(module.activation, "gelu"), 0)  # type: ignore[arg-type]
        if isinstance(module, GatedFeedForward):
            yield self._linear(f"{name}.gate")
            product = self._taken_value(down).producer()
            assert product is not None
            yield _intermediate(activation, product.inputs[0])
            yield self._linear(f"{name}.up")
            yield self._taken(down, ProgramNode(name, "mul", 0))
        else:
            yield self._linear(f"{name}.up")
            yield self._taken(down, activation)

    def _norm(self, norm: torch.nn.Module, name: str) -> IntermediateOutput:
        node = ProgramNode(name, "mul", _SCALED) if isinstance(norm, RmsNorm) else ProgramNode(name, "layer_norm", 0)
        return _intermediate(node, self._nodes[name].outputs[0])

    def _linear(self, name: str) -> IntermediateOutput:
        return _intermediate(ProgramNode(name, "linear", 0), self._nodes[name].outputs[0])

    def _sum(self, norm: str, node: ProgramNode) -> IntermediateOutput:
        return _intermediate(node, self._nodes[norm].outputs[_SUM])

    def _taken(self, layer: str, node: ProgramNode) -> IntermediateOutput:
        return _intermediate(node, self._taken_value(layer))

    def _taken_value(self, layer: str) -> ir.Value:
        value = self._nodes[f"{layer}/first"].inputs[0]
        assert value is not None
        return value


def _intermediate(node: ProgramNode, value: ir.Value | None) -> IntermediateOutput:
    assert value is not None
    producer = value.producer()
    assert producer is not None
    return IntermediateOutput(node, str(value.name), producer.op_type)
