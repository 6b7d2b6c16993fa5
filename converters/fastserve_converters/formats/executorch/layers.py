"""Which nodes of an exported program belong to which torch module, and what a module gives there.

Delegates hide what happens inside them, so that layers are compared in the program that is lowered.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastserve_converters.diagnosis.program_nodes import module_of


def nodes_of_modules(program: torch.export.ExportedProgram, modules: Collection[str]) -> list[tuple[str | None, str]]:
    """Return (module or None, node) for every node.

    Args:
        program: any exported program.
        modules: names of the torch modules that are looked for.
    """
    return [(module_of(node, modules), node.name) for node in program.graph.nodes]


def layer_outputs(
    graph_module: torch.fx.GraphModule, layers: Collection[str], inputs: Mapping[str, torch.Tensor]
) -> dict[str, NDArray[np.float32]]:
    """Run a program operator by operator and return what layers give, those that run several times at their last run.

    Args:
        graph_module: the unlifted program that `rewritten` returns; without the batch dimension inside.
        layers: torch module names.
        inputs: by name, shape [1, tokens].
    """
    found: dict[str, NDArray[np.float32]] = {}

    class Recording(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> Any:
            value = super().run_node(n)
            layer = module_of(n, layers) if n.op == "call_function" else None
            if layer is not None and isinstance(value, torch.Tensor) and value.dtype == torch.float32:
                found[layer] = value.numpy()
            return value

    with torch.no_grad():
        # Inputs in the order of the program's placeholders.
        Recording(graph_module).run(*inputs.values(), enable_io_processing=False)
    return found
