"""What lowering is told, and what it says of its result."""

from __future__ import annotations

import copy

import pytest
import torch

from fastserve_converters.formats.executorch.delegation import placed_nodes, provenance_shared, xnnpack_partitioner

pytest.importorskip("executorch.exir")


class Norms(torch.nn.Module):
    """Layers that XNNPACK takes, around one that it has not."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = torch.nn.Linear(8, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 4)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """Return shape [tokens, 4]."""
        hidden: torch.Tensor = self.last(torch.sigmoid(self.norm(torch.relu(self.first(value)))))
        return hidden


def test_operators_inside_delegates_are_counted_as_executorch_does() -> None:
    from executorch.devtools.backend_debug import get_delegation_info
    from executorch.exir import to_edge_transform_and_lower

    program = torch.export.export(Norms().eval(), (torch.ones(3, 8),))
    with provenance_shared():
        edge = to_edge_transform_and_lower(program, partitioner=[xnnpack_partitioner()])
    graph_module = edge.exported_program().graph_module
    delegated, total = placed_nodes(graph_module)
    expected = get_delegation_info(graph_module)
    assert expected.num_delegated_subgraphs == 2
    assert delegated == expected.num_delegated_nodes > 0
    assert total - delegated == expected.num_non_delegated_nodes > 0


def test_provenance_is_shared_inside_the_block_alone() -> None:
    from torch.fx.traceback import NodeSource

    source = NodeSource(None, "a pass")
    with provenance_shared():
        assert copy.deepcopy([source])[0] is source
    assert copy.deepcopy(source) is not source
