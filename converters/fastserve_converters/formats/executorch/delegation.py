"""XNNPACK's share of a program: one delegate wherever nothing else comes between, and weights of less than 32 bits.

ExecuTorch's partitioner takes integer weights only where activations are integers as well, and float16 weights only in
float16 models. XNNPACK itself reads int8, int4 and float16 weights beside float32 activations: it expands integers as
it multiplies, and float16 when it loads. The classes of this module let such layers through.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from executorch.exir.backend.partitioner import Partitioner
    from torch.fx.passes.infra.partitioner import Partition

_LINEAR = "aten.linear.default"


def xnnpack_partitioner() -> Partitioner:
    """Return a partitioner that merges what can be merged, and takes weight-only integers.

    ExecuTorch's own tries each pair of partitions once, in an order in which shared quantized inputs leave many apart.
    """
    import torch
    from executorch.backends.xnnpack.partition.config import ALL_PARTITIONER_CONFIGS
    from executorch.backends.xnnpack.partition.config.gemm_configs import LinearConfig
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.utils.quant_utils import is_dequant, tag_as_implicit_q_dq
    from executorch.exir.backend.canonical_partitioners.config_partitioner import (
        generate_grouped_partitions_from_list_of_nodes,
    )

    class AnyLinear(LinearConfig):  # type: ignore[misc]
        """Linear layers, those with quantized weights and activations that are no 8-bit integers too."""

        def get_deps(self, node: torch.fx.Node, ep: torch.export.ExportedProgram) -> tuple[bool, list[torch.fx.Node]]:
            value, weight, *bias = node.all_input_nodes
            # It multiplies no 16-bit integers: those are dequantized before they come in.
            has_quantized_input = is_dequant(value) and value.all_input_nodes[0].meta["val"].dtype == torch.int8
            if not is_dequant(weight) or has_quantized_input:
                found: tuple[bool, list[torch.fx.Node]] = super().get_deps(node, ep)
                return found
            tag_as_implicit_q_dq(weight)
            return True, [weight, *weight.all_input_nodes, *bias]

    class MergingPartitioner(XnnpackPartitioner):  # type: ignore[misc]
        """XNNPACK's partitioner, repeated on its own result until nothing more can be merged."""

        def generate_partitions(self, ep: torch.export.ExportedProgram) -> list[Partition]:
            partitions: list[Partition] = super().generate_partitions(ep)
            while True:
                groups = [list(partition.nodes) for partition in partitions]
                merged = generate_grouped_partitions_from_list_of_nodes(ep.graph_module, groups)
                if len(merged) >= len(partitions):
                    return partitions
                partitions = merged

    return MergingPartitioner([AnyLinear if c is LinearConfig else c for c in ALL_PARTITIONER_CONFIGS])


@contextmanager
def half_weights_written() -> Iterator[None]:
    """Inside the block, float weights of linear layers are written as float16, their biases as float32."""
    from executorch.backends.xnnpack.operators import node_visitor  # the package registers all visitors
    from executorch.backends.xnnpack.utils.utils import get_tensor_name, is_param_node

    visitors = node_visitor._node_visitor_dict
    usual = visitors[_LINEAR]

    class HalfLinear(usual):  # type: ignore[misc, valid-type]
        def define_node(self, node: torch.fx.Node, *arguments: Any) -> None:
            weight: Any = node.args[1]
            if is_param_node(self.exported_program, weight):
                _halve(self.exported_program, weight, get_tensor_name(self.exported_program, weight))
            super().define_node(node, *arguments)

    visitors[_LINEAR] = HalfLinear
    try:
        yield
    finally:
        visitors[_LINEAR] = usual


@contextmanager
def provenance_shared() -> Iterator[None]:
    """Inside the block, nodes share the records of where they come from, which nothing changes.

    PyTorch copies a node's whole history for every node of every pass, an eighth of the time of lowering.
    """
    from torch.fx.traceback import NodeSource

    def itself(source: NodeSource, _copied: dict[int, Any]) -> NodeSource:
        return source

    NodeSource.__deepcopy__ = itself  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del NodeSource.__deepcopy__  # type: ignore[attr-defined]


def placed_nodes(graph_module: torch.fx.GraphModule) -> tuple[int, int]:
    """Return how many operators of a lowered program are inside delegates, and how many there are in all.

    ExecuTorch's `get_delegation_info` counts the same, and imports all of its developer tools for it.
    """
    delegated = others = 0
    for node in graph_module.graph.nodes:
        if node.op == "get_attr" and node.name.startswith("lowered_module_"):
            inside = getattr(graph_module, node.name).original_module.graph.nodes
            delegated += sum(n.op == "call_function" for n in inside)
        elif node.op == "call_function" and not node.name.startswith("executorch_call_delegate"):
            others += 1
    return delegated, delegated + others


def _halve(program: torch.export.ExportedProgram, weight: torch.fx.Node, name: str) -> None:
    import torch

    for tensors in (program.state_dict, program.constants):
        if name in tensors:
            tensors[name] = tensors[name].detach().to(torch.float16)
    weight.meta["val"] = weight.meta["val"].to(torch.float16)
