"""Lowering of decoders: one delegate between two attentions, and no pass that finds nothing to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastserve_converters.formats.executorch.delegation import placed_nodes, provenance_shared, xnnpack_partitioner

if TYPE_CHECKING:
    import torch

_ONLY_LINEAR = "dqlinear_partitioner"
"""ExecuTorch's word for programs of which XNNPACK's part needs one pass instead of 17. The others rewrite convolutions,
batch norms and layouts, of which decoders have none, and each of them builds the graph of every delegate anew."""


@dataclass(frozen=True)
class LoweredDecoder:
    """A program as it is written to a file.

    Attributes:
        content: of the file.
        operators: of the method `forward`: domain, name, version → calls.
        delegated: how many operators are in delegates.
        total: how many there are in all.
    """

    content: bytes
    operators: Mapping[tuple[str, str, int], int]
    delegated: int
    total: int


def lowered_decoder(program: torch.export.ExportedProgram, constants: Mapping[str, Any]) -> LoweredDecoder:
    """Lower a program.

    Args:
        program: that of `decoder_program`.
        constants: what further methods return, by their names.
    """
    import torch
    from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge_transform_and_lower
    from executorch.exir.backend.compile_spec_schema import CompileSpec
    from executorch.exir.backend.partitioner import DelegationSpec
    from executorch.exir.passes import MemoryPlanningPass

    from fastserve_converters.formats.executorch import count_calls

    partitioner = xnnpack_partitioner()
    kept, _ = partitioner.ops_to_not_decompose(program)

    def not_decomposed(given: torch.export.ExportedProgram) -> tuple[list[Any], None]:
        # Without a say in each single operator, and with none that is taken apart: that saves two tracings of the
        # program. The size of an input is fine as it is, but not among what only a backend could compute.
        return [*kept, *([] if given.dialect == "EDGE" else [torch.ops.aten.sym_size.int])], None

    partitioner.ops_to_not_decompose = not_decomposed
    partitioner.delegation_spec = DelegationSpec("XnnpackBackend", [CompileSpec(_ONLY_LINEAR, b"")])
    # Checks after each pass; what comes out is run and compared.
    unchecked = EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True)
    with provenance_shared():
        edge = to_edge_transform_and_lower(
            program, partitioner=[partitioner], constant_methods=dict(constants), compile_config=unchecked
        )
        delegated, total = placed_nodes(edge.exported_program().graph_module)
        # Inputs stay where the application has them.
        planning = MemoryPlanningPass(alloc_graph_input=False)
        lowered = edge.to_executorch(ExecutorchBackendConfig(memory_planning_pass=planning))
    return LoweredDecoder(lowered.buffer, count_calls(lowered.exported_program().graph), delegated, total)
