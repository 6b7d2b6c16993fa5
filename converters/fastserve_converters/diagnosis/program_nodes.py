"""The operators of a torch program whose values can be compared with a file's: where they are and what they are called.

Operators that only move values are left out, but for reshapes: where a file computes attention in one operator, what
it gives is what the torch program gives behind its reshape.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fastserve_converters.layer_map import ProgramNode, innermost_module

if TYPE_CHECKING:
    import torch

RESHAPED = "view"
"""The one kind of node that computes nothing."""
_MOVING = frozenset(
    {
        "alias", "cat", "chunk", "clone", "contiguous", "detach", "dropout", "expand", "flatten", "getitem", "permute",
        "select", "slice", "split", "squeeze", "t", "to", "_to_copy", "transpose", "unsqueeze",
    }
)  # fmt: skip
_ONE_NAME = {"rsub": "sub", "reshape": RESHAPED, "_softmax": "softmax", "native_layer_norm": "layer_norm"}
"""PyTorch writes some operators in another way when it takes a program apart for an exporter."""


def operator_kind(target: str) -> str:
    """Return what a node is called after: `linear` of `aten.linear.default`."""
    parts = target.split(".")
    name = parts[1] if len(parts) > 1 and parts[0] == "aten" else parts[-1]
    return _ONE_NAME.get(name, name)


def moves_only(kind: str) -> bool:
    """Whether an operator's values are those of its input; reshapes are not counted."""
    return kind in _MOVING


def module_of(node: torch.fx.Node, modules: Collection[str]) -> str | None:
    """Return the innermost of the modules that a node comes from."""
    stack: Mapping[str, Any] = node.meta.get("nn_module_stack") or {}
    # Scopes are written as attribute accesses from the exported root.
    scopes = [str(path).removeprefix("L['self'].").replace("L['self']", "") for path, _ in stack.values()]
    return innermost_module(scopes, modules)


def nodes_of_program(graph_module: torch.fx.GraphModule, modules: Collection[str]) -> dict[torch.fx.Node, ProgramNode]:
    """Return the nodes of an unlifted program, in its order.

    Args:
        graph_module: the program; nodes carry their values' shapes.
        modules: names of the torch modules.
    """
    found = [
        (node, module_of(node, modules) or "", operator_kind(str(node.target))) for node in _computing(graph_module)
    ]
    return dict(zip((node for node, *_ in found), numbered((m, kind) for _, m, kind in found), strict=True))


def numbered(pairs: Iterator[tuple[str, str]]) -> Iterator[ProgramNode]:
    """Return nodes for (module, operator) in the order of the program."""
    calls: Counter[tuple[str, str]] = Counter()
    for module, operator in pairs:
        yield ProgramNode(module, operator, calls[module, operator])
        calls[module, operator] += 1


def _computing(graph_module: torch.fx.GraphModule) -> Iterator[torch.fx.Node]:
    import torch

    for node in graph_module.graph.nodes:
        value = node.meta.get("val")
        is_real = isinstance(value, torch.Tensor) and value.is_floating_point()
        if node.op == "call_function" and is_real and not moves_only(operator_kind(str(node.target))):
            yield node
