"""Which tensors of a converted file hold what operators of the torch program give, found by their values.

The converter calls most tensors by a module and a number, of which nothing follows. The file was just proven to compute
what the program does, so on the same inputs a tensor with an operator's values is that operator's output. Files that
are made from this one keep the names of its tensors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.diagnosis.program_nodes import RESHAPED, nodes_of_program
from fastserve_converters.formats.tflite.file import constant_of, operators, read_model, tensor_name
from fastserve_converters.layer_map import IntermediateOutput, ProgramNode
from fastserve_converters.models.encoder_inputs import sample_inputs

if TYPE_CHECKING:
    import torch

_TOLERANCE = 1e-4
"""Of the largest value. The converter's own proof asks for 1e-5 at the end; values inside may be larger."""
_TOKENS = 11
_MOVING = {"RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS"}


def name_apart(model: Any) -> None:
    """Give every tensor of a graph a name of its own: the converter gives the same to several."""
    for graph in model.subgraphs:
        taken: Counter[str] = Counter()
        for tensor in graph.tensors:
            name = tensor_name(tensor)
            taken[name] += 1
            if taken[name] > 1:
                tensor.name = f"{name}~{taken[name]}".encode()


def find_intermediates(
    path: Path, program: torch.export.ExportedProgram, modules: list[str], factors: Mapping[str, float]
) -> list[IntermediateOutput]:
    """Return the intermediate outputs of a float file.

    Args:
        path: the file.
        program: the torch program, which takes any number of tokens.
        modules: names of the torch modules.
        factors: torch module name → what its output is multiplied with in the file.
    """
    length = min(_TOKENS, _max_tokens(program))
    sample = sample_inputs(length, length - length // 3, program.graph_signature.user_inputs)
    tensors = _tensor_values(path, sample)
    taken: set[str] = set()
    intermediates = []
    for program_node, expected in _program_values(program, modules, sample):
        factor = factors.get(program_node.module, 1.0)
        for name, (kind, actual) in tensors.items():
            is_moved = program_node.operator == RESHAPED
            if name in taken or actual.size != expected.size or (kind in _MOVING) != is_moved:
                continue
            if _is_equal(expected * factor, actual):
                taken.add(name)
                intermediates.append(IntermediateOutput(program_node, name, kind, factor))
                break
    return intermediates


def exported_operators(model: Any) -> dict[str, str]:
    """Return tensor → what the file calls the operator that gives it."""
    return {
        tensor_name(graph.tensors[index]): kind
        for graph, operator, kind in operators(model)
        for index in operator.outputs
    }


def _program_values(
    program: torch.export.ExportedProgram, modules: list[str], sample: Mapping[str, NDArray[Any]]
) -> list[tuple[ProgramNode, NDArray[np.float32]]]:
    import torch

    graph_module: Any = program.module(check_guards=False)
    program_nodes = nodes_of_program(graph_module, modules)
    values: list[tuple[ProgramNode, NDArray[np.float32]]] = []

    class Recording(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> Any:
            value = super().run_node(n)
            if n in program_nodes:
                values.append((program_nodes[n], value.numpy().reshape(-1).astype(np.float32)))
            return value

    with torch.no_grad():
        Recording(graph_module).run(*(torch.from_numpy(v) for v in sample.values()), enable_io_processing=False)
    return values


def _tensor_values(path: Path, sample: Mapping[str, NDArray[Any]]) -> dict[str, tuple[str, NDArray[np.float32]]]:
    """Return tensor → (operator, values) of what each call computes, in the file's order."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    model = read_model(path)
    (graph,) = model.subgraphs
    numbers = {tensor_name(tensor): index for index, tensor in enumerate(graph.tensors)}
    # Delegates would keep what is inside them to themselves.
    interpreter = Interpreter(
        model_path=str(path),
        num_threads=1,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.get_signature_runner()(**sample)
    found = {}
    for name, kind in exported_operators(model).items():
        if constant_of(model, graph.tensors[numbers[name]]) is not None:
            continue
        value = interpreter.get_tensor(numbers[name])
        if np.issubdtype(value.dtype, np.floating):
            found[name] = kind, value.reshape(-1).astype(np.float32)
    return found


def _is_equal(expected: NDArray[np.float32], actual: NDArray[np.float32]) -> bool:
    return bool(np.abs(expected - actual).max(initial=0.0) <= _TOLERANCE * max(float(np.abs(expected).max()), 1e-6))


def _max_tokens(program: torch.export.ExportedProgram) -> int:
    """Return the upper bound of a program's number of tokens."""
    return min((int(r.upper) for r in program.range_constraints.values()), default=_TOKENS)
