"""A program that also gives what its operators compute, so that it leaves the delegates that would keep it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from fastserve_converters.diagnosis.program_nodes import RESHAPED, nodes_of_program
from fastserve_converters.formats import ExportJob
from fastserve_converters.layer_map import IntermediateOutput

if TYPE_CHECKING:
    from fastserve_converters.models.model import TracedPart


def with_further_outputs(job: ExportJob[TracedPart]) -> tuple[torch.fx.GraphModule, list[IntermediateOutput]]:
    """Return the job's program, unlifted, whose outputs are followed by its nodes' values, and what these are.

    An intermediate output's tensor is called by the operator's node in the program.
    """
    graph_module: Any = job.part.program.module(check_guards=False)
    modules = [name for name, _ in job.part.module.named_modules()]
    program_nodes = {n: p for n, p in nodes_of_program(graph_module, modules).items() if p.operator != RESHAPED}
    (end,) = (node for node in graph_module.graph.nodes if node.op == "output")
    own = pytree.tree_leaves(end.args[0])
    nodes = [node for node in program_nodes if node not in own]
    end.args = ((*own, *nodes),)
    information = graph_module.graph._codegen.pytree_info
    names = [*information.out_spec.context, *(node.name for node in nodes)]
    graph_module.graph._codegen.pytree_info = information._replace(
        out_spec=pytree.tree_structure(dict.fromkeys(names, 0))
    )
    graph_module.recompile()
    return graph_module, [IntermediateOutput(program_nodes[node], node.name, str(node.target)) for node in nodes]
