"""A program as a module whose linear layers and embeddings are modules again.

`torch.export` leaves operators and their weights. Precisions, evidence and layer maps go by layers and their names, so
those whose weights a program holds are made again, under the names that their weights have.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from fastserve_runtime.bundle.tensor_specs import Signature
from fastserve_runtime.errors import UsageError, one_line

_aten = torch.ops.aten
_WEIGHT = ".weight"


class LayeredProgram(torch.nn.Module):
    """Called with a program's inputs by name, gives its outputs by name; see `layered_program`.

    Attributes:
        program: the graph, which holds the layers.
    """

    def __init__(self, program: torch.fx.GraphModule, signature: Signature) -> None:
        super().__init__()
        self.program = program
        self._inputs = tuple(spec.name for spec in signature.inputs)
        self._outputs = tuple(spec.name for spec in signature.outputs)

    def forward(self, *args: torch.Tensor, **kwargs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the outputs by name.

        Args:
            args: inputs in the signature's order.
            kwargs: the others by name.
        """
        inputs = (*args, *(kwargs[name] for name in self._inputs[len(args) :]))
        return dict(zip(self._outputs, self.program(*inputs), strict=True))


def layered_program(program: torch.export.ExportedProgram, signature: Signature) -> LayeredProgram:
    """Return a program as a module with its layers.

    Args:
        program: inputs in the order of the signature.
        signature: names of inputs and outputs.

    Raises:
        UsageError: the program has operators that cannot be traced again.
    """
    try:
        graph_module: Any = program.module(check_guards=False)
    except Exception as error:  # it raises whatever it likes
        raise UsageError(
            f"PyTorch cannot make a module of the program again: {one_line(error)[:300]}", "Export it again."
        ) from error
    graph_module.graph.set_codegen(torch.fx.graph.CodeGen())
    graph_module._forward_pre_hooks.clear()  # they check inputs by the structure that the codegen gave
    _flatten_outputs(graph_module)
    _restore_layers(graph_module)
    graph_module.graph.eliminate_dead_code()
    graph_module.recompile()
    for parameter in graph_module.parameters():
        parameter.requires_grad_(requires_grad=False)
    layered = _class_for(signature)(graph_module, signature)
    # A program has no mode of its own: it was exported in the one that it has.
    layered.training = False
    for module in layered.modules():
        module.training = False
    return layered


def _class_for(signature: Signature) -> type[LayeredProgram]:
    """Return a class whose `forward` tells the names of the inputs, which `torch.export` asks it for."""

    def forward(self: LayeredProgram, *args: torch.Tensor, **kwargs: torch.Tensor) -> dict[str, torch.Tensor]:
        return LayeredProgram.forward(self, *args, **kwargs)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    names = ["self", *(spec.name for spec in signature.inputs)]
    forward.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])  # type: ignore[attr-defined]
    return type("LayeredProgram", (LayeredProgram,), {"forward": forward, "__module__": __name__})


def _flatten_outputs(graph_module: torch.fx.GraphModule) -> None:
    (output,) = (node for node in graph_module.graph.nodes if node.op == "output")
    leaves = [leaf for leaf in torch.utils._pytree.tree_leaves(output.args[0]) if isinstance(leaf, torch.fx.Node)]
    output.args = (tuple(leaves),)


def _restore_layers(graph_module: torch.fx.GraphModule) -> None:
    parameters = dict(graph_module.named_parameters(remove_duplicate=False))
    made: dict[tuple[str, str], str] = {}
    for node in list(graph_module.graph.nodes):
        kind = {_aten.linear.default: "linear", _aten.embedding.default: "embedding"}.get(node.target)
        if kind is None:
            continue
        table, given = (node.args[1], node.args[0]) if kind == "linear" else (node.args[0], node.args[1])
        source = _source(table)
        if source is None or source not in parameters or not source.endswith(_WEIGHT):
            continue
        bias = node.args[2] if kind == "linear" and len(node.args) > 2 else None
        bias_source = None if bias is None else _source(bias)
        if bias is not None and bias_source not in parameters:
            continue
        key = source, kind
        if key not in made:
            layer = _layer(kind, parameters, source, bias_source)
            made[key] = _place(graph_module, source.removesuffix(_WEIGHT), layer)
        with graph_module.graph.inserting_before(node):
            call = graph_module.graph.call_module(made[key], (given,))
        call.meta.update(node.meta)
        node.replace_all_uses_with(call)
        graph_module.graph.erase_node(node)


def _source(node: Any) -> str | None:
    return str(node.target) if isinstance(node, torch.fx.Node) and node.op == "get_attr" else None


def _layer(
    kind: str, parameters: Mapping[str, torch.nn.Parameter], weight: str, bias: str | None
) -> torch.nn.Linear | torch.nn.Embedding:
    table = parameters[weight]
    if kind == "embedding":
        embedding = torch.nn.Embedding(table.shape[0], table.shape[1], device="meta")
        embedding.weight = table  # the very parameter, which others may share
        return embedding
    layer = torch.nn.Linear(table.shape[1], table.shape[0], bias=bias is not None, device="meta")
    layer.weight = table
    if bias is not None:
        layer.bias = parameters[bias]
    return layer


def _place(graph_module: torch.fx.GraphModule, name: str, layer: torch.nn.Module) -> str:
    """Put a layer where its weight was, or beside it where something else is there now."""
    place = name
    while True:
        try:
            there: torch.nn.Module | None = graph_module.get_submodule(place)
        except AttributeError:
            there = None
        if there is None or type(there) is torch.nn.Module:
            break
        place = f"{place}_"
    _make_parents(graph_module, place)
    graph_module.set_submodule(place, layer)
    return place


def _make_parents(graph_module: torch.fx.GraphModule, place: str) -> None:
    parent: torch.nn.Module = graph_module
    for name in place.split(".")[:-1]:
        if not hasattr(parent, name):
            parent.add_module(name, torch.nn.Module())
        parent = getattr(parent, name)
