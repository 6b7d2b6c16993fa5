"""A program for batches of one, rewritten without its batch dimension: XNNPACK takes all of its matrix products then.

`torch.matmul` of four dimensions is lowered to `bmm` between `expand_copy` operators, which XNNPACK has not: they run
as plain copies, and each cuts the delegated graph in two. Without the leading dimension of 1, attention is a `bmm` of
three dimensions as it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

aten = torch.ops.aten

_POINTWISE = frozenset(
    {
        aten.add.Tensor,
        aten.clamp.default,
        aten.div.Tensor,
        aten.erf.default,
        aten.exp.default,
        aten.gelu.default,
        aten.mul.Tensor,
        aten.neg.default,
        aten.pow.Tensor_Scalar,
        aten.relu.default,
        aten.rsqrt.default,
        aten.rsub.Scalar,
        aten.sigmoid.default,
        aten.silu.default,
        aten.sqrt.default,
        aten.sub.Tensor,
        aten.tanh.default,
    }
)
_NOTHING_AT_INFERENCE = frozenset({aten.dropout.default, aten.contiguous.default})
_KEPT_META = ("nn_module_stack", "stack_trace", "source_fn_stack")


def without_batch(graph_module: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Return the same function, with the same inputs and outputs, computed without the batch dimension inside.

    Operators that are not known here are given their batch dimension and have it taken off their result.

    Args:
        graph_module: an unlifted exported program whose inputs have a batch of 1; nodes carry their values' shapes.
    """
    return _Rewriting(graph_module).result()


class _Rewriting:
    def __init__(self, graph_module: torch.fx.GraphModule) -> None:
        self._source = graph_module
        self._graph = torch.fx.Graph()
        self._new: dict[torch.fx.Node, Any] = {}
        # Old nodes whose new value lacks the batch dimension.
        self._batchless: set[torch.fx.Node] = set()
        self._meta: dict[str, Any] = {}

    def result(self) -> torch.fx.GraphModule:
        for node in self._source.graph.nodes:
            self._meta = {key: node.meta[key] for key in _KEPT_META if key in node.meta}
            if node.op == "placeholder":
                made = self._graph.placeholder(node.target)
                self._take_off(node, made)
            elif node.op == "output":
                self._graph.output(torch.fx.map_arg(node.args[0], self._whole))
            elif node.op == "get_attr":
                self._new[node] = self._graph.get_attr(node.target)
            else:
                self._rewrite(node)
        self._graph.eliminate_dead_code()
        self._graph.lint()
        # Names and structure of inputs and outputs.
        self._graph._codegen = self._source.graph._codegen
        return torch.fx.GraphModule(self._source, self._graph)

    def _rewrite(self, node: torch.fx.Node) -> None:
        """Add the new form of one operator."""
        target: Any = node.target
        arguments: Sequence[Any] = node.args
        value = arguments[0] if arguments and isinstance(arguments[0], torch.fx.Node) else None
        if value is None or value not in self._batchless:
            if target is aten.embedding.default and arguments[1] in self._batchless:
                table, indices = self._new[arguments[0]], self._new[arguments[1]]
                self._keep(node, self._call(target, table, indices))
            elif target in _POINTWISE and any(a in self._batchless for a in node.all_input_nodes):
                self._keep(node, self._call(target, *map(self._broadcast, arguments), **node.kwargs))
            else:
                self._as_it_was(node)
            return
        new = self._new[value]
        rank = value.meta["val"].dim()
        if target in _NOTHING_AT_INFERENCE:
            self._keep(node, new)
        elif target in _POINTWISE:
            self._keep(node, self._call(target, *map(self._broadcast, arguments), **node.kwargs))
        elif target in {aten.linear.default, aten.layer_norm.default}:
            self._keep(node, self._call(target, new, *map(self._plain, arguments[1:]), **node.kwargs))
        elif target is aten.softmax.int and arguments[1] in {-1, rank - 1}:
            self._keep(node, self._call(target, new, -1, **node.kwargs))
        elif target in {aten.view.default, aten.reshape.default, aten.unsqueeze.default} and _has_batch(node):
            self._keep(node, self._reshaped(new, node.meta["val"].shape[1:]))
        elif target is aten.transpose.int and 0 not in {int(d) % rank for d in arguments[1:]}:
            first, second = (int(d) % rank - 1 for d in arguments[1:])
            order = list(range(rank - 1))
            order[first], order[second] = order[second], order[first]
            self._keep(node, self._permuted(new, order))
        elif target is aten.permute.default and arguments[1][0] in {0, -rank}:
            self._keep(node, self._permuted(new, [int(d) % rank - 1 for d in arguments[1]][1:]))
        elif target is aten.matmul.default and rank == 4 and arguments[1] in self._batchless and _has_batch(node):
            self._keep(node, self._call(aten.bmm.default, new, self._new[arguments[1]]))
        elif target is aten.sum.dim_IntList and 0 not in (dims := [int(d) % rank for d in arguments[1]]):
            self._keep(node, self._call(target, new, [d - 1 for d in dims], *arguments[2:], **node.kwargs))
        elif target is aten.sym_size.int and int(arguments[1]) > 0:
            self._new[node] = self._call(target, new, int(arguments[1]) - 1)
        else:
            self._as_it_was(node)

    def _keep(self, node: torch.fx.Node, made: torch.fx.Node) -> None:
        self._new[node] = made
        self._batchless.add(node)

    def _as_it_was(self, node: torch.fx.Node) -> None:
        made = self._call(
            node.target, *torch.fx.map_arg(node.args, self._whole), **torch.fx.map_arg(node.kwargs, self._whole)
        )
        self._take_off(node, made)

    def _take_off(self, node: torch.fx.Node, made: torch.fx.Node) -> None:
        """Register a new value that has its batch dimension, without it where it is floats or indices of batch 1."""
        self._new[node] = made
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor) and _has_batch(node) and value.dim() > 1:
            self._keep(node, self._reshaped(made, value.shape[1:]))

    def _whole(self, node: torch.fx.Node) -> torch.fx.Node:
        new: torch.fx.Node = self._new[node]
        if node not in self._batchless:
            return new
        shape = node.meta["val"].shape
        # A reshape can leave one size open.
        if sum(isinstance(size, torch.SymInt) for size in shape) > 1:
            return self._call(aten.unsqueeze.default, new, 0)
        return self._reshaped(new, shape)

    def _plain(self, argument: Any) -> Any:
        return self._new[argument] if isinstance(argument, torch.fx.Node) else argument

    def _broadcast(self, argument: Any) -> Any:
        """Return an argument of a pointwise operator: constants of batch 1 lose that dimension as well."""
        if not isinstance(argument, torch.fx.Node) or argument in self._batchless:
            return self._plain(argument)
        value = argument.meta.get("val")
        new = self._new[argument]
        if isinstance(value, torch.Tensor) and value.dim() > 1 and _has_batch(argument):
            return self._reshaped(new, value.shape[1:])
        return new

    def _reshaped(self, value: torch.fx.Node, shape: Sequence[Any]) -> torch.fx.Node:
        """Add a reshape. XNNPACK takes one unknown dimension, written as -1, of a contiguous value."""
        if value.target is aten.permute.default:
            value = self._call(aten.clone.default, value, memory_format=torch.contiguous_format)
        return self._call(aten.reshape.default, value, [d if isinstance(d, int) else -1 for d in shape])

    def _permuted(self, value: torch.fx.Node, order: list[int]) -> torch.fx.Node:
        if value.target is aten.permute.default:
            before: Any = value.args[1]
            inner: Any = value.args[0]
            value, order = inner, [before[i] for i in order]
        return self._call(aten.permute.default, value, order)

    def _call(self, target: Any, *arguments: Any, **keywords: Any) -> torch.fx.Node:
        made = self._graph.call_function(target, arguments, keywords)
        made.meta.update(self._meta)
        return made


def _has_batch(node: torch.fx.Node) -> bool:
    value = node.meta["val"]
    return (
        isinstance(value, torch.Tensor) and value.dim() > 0 and isinstance(value.shape[0], int) and value.shape[0] == 1
    )
