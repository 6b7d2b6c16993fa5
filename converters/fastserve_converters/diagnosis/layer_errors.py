"""How far each layer of an artifact is from the torch program: what it adds itself, and what has come together by then.

An artifact's values inside were recorded, sample by sample. The program is run twice on each sample. Free-running, its
values are the trace of the reference, and the artifact's difference from it is the cumulative error. Led by the
artifact, every operator computes from what the artifact had before it, so that its difference is the layer's own, the
local error; a fault shows where it is and nowhere behind it. One sample is in memory at a time, and of the trace one
tensor.
"""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastserve_converters.diagnosis.error_sums import ErrorSums
from fastserve_converters.diagnosis.program_nodes import RESHAPED, moves_only, nodes_of_program, operator_kind
from fastserve_converters.layer_map import IntermediateOutput, ProgramNode
from fastserve_runtime.conformance.recorded_samples import INPUT, OUTPUT, TENSOR, sample_file


@dataclass(frozen=True)
class Recorded:
    """Samples of an artifact on disk.

    Attributes:
        folder: of the samples; see `fastserve_runtime.conformance.recorded_samples`.
        intermediates: N of a tensor → the intermediate output that it is.
    """

    folder: Path
    intermediates: Mapping[int, IntermediateOutput]


@dataclass(frozen=True)
class Segment:
    """An intermediate output in the program, with what lies between it and those before it.

    Attributes:
        node: the node that is recorded.
        program_node: where that is.
        intermediate: the tensor of the file.
        before: nodes of the intermediate outputs that it is computed from.
        modules: torch modules of the operators between, in the program's order.
    """

    node: torch.fx.Node
    program_node: ProgramNode
    intermediate: IntermediateOutput
    before: tuple[ProgramNode, ...]
    modules: tuple[str, ...]


def segments(
    graph_module: torch.fx.GraphModule, modules: Collection[str], intermediates: Iterable[IntermediateOutput]
) -> list[Segment]:
    """Return the intermediate outputs that the program has, in its order.

    A reshape is left out where what it moves is recorded already, in the same order of its values.
    """
    program_nodes = nodes_of_program(graph_module, modules)
    by_program_node = {intermediate.program_node: intermediate for intermediate in intermediates}
    recorded_nodes = {
        node: by_program_node[program_node]
        for node, program_node in program_nodes.items()
        if program_node in by_program_node
    }
    recorded_nodes = {
        n: t
        for n, t in recorded_nodes.items()
        if t.program_node.operator != RESHAPED or _is_told_apart(n, recorded_nodes)
    }
    found = []
    for node, intermediate in recorded_nodes.items():
        before: list[torch.fx.Node] = []
        between = {node}
        pending = list(node.all_input_nodes)
        while pending:
            each = pending.pop()
            if each in recorded_nodes:
                before.append(each)
            elif each not in between:
                between.add(each)
                pending += each.all_input_nodes
        names = [p.module for n, p in program_nodes.items() if n in between and p.operator != RESHAPED]
        found.append(
            Segment(
                node,
                program_nodes[node],
                intermediate,
                tuple(sorted({program_nodes[b] for b in before})),
                tuple(dict.fromkeys([*names, program_nodes[node].module])),
            )
        )
    return found


def _is_told_apart(node: torch.fx.Node, recorded_nodes: Mapping[torch.fx.Node, IntermediateOutput]) -> bool:
    """Whether a reshape says more than the outputs before it, such as how the heads of attention are joined."""
    while node.op == "call_function":
        kind = operator_kind(str(node.target))
        if kind in {"transpose", "permute"}:
            return True
        if kind != RESHAPED and not moves_only(kind):
            return node not in recorded_nodes
        node = node.all_input_nodes[0]
    return False


def layer_errors(
    graph_module: torch.fx.GraphModule,
    modules: Collection[str],
    recordings: Sequence[Recorded],
    samples: Sequence[int],
    trace: Path,
) -> dict[str, Any]:
    """Compare an artifact with the program.

    Args:
        graph_module: the unlifted program, whose inputs are those of the samples.
        modules: names of the torch modules.
        recordings: of the same samples; each has some of the intermediate outputs.
        samples: their numbers.
        trace: a folder for the reference's values.

    Returns:
        `intermediates`: a list in the program's order, each with the fields of its `IntermediateOutput`, `modules`,
        `before` (numbers of outputs in this list), and the figures `local` and `cumulative`. `outputs`: the figures of
        the model's outputs by name.
    """
    owner = {
        intermediate.program_node: (recorded, number)
        for recorded in recordings
        for number, intermediate in recorded.intermediates.items()
    }
    found = segments(
        graph_module,
        modules,
        (intermediate for recorded in recordings for intermediate in recorded.intermediates.values()),
    )
    local = {s.node: ErrorSums() for s in found}
    cumulative = {s.node: ErrorSums() for s in found}
    outputs: dict[str, ErrorSums] = {}
    trace.mkdir(parents=True, exist_ok=True)
    for sample in samples:
        files = {id(r): np.load(sample_file(r.folder, sample), allow_pickle=False) for r in recordings}
        try:
            first = next(iter(files.values()))
            inputs = {n.removeprefix(INPUT): first[n] for n in first.files if n.startswith(INPUT)}
            reference = sample_file(trace, sample)
            names = _stream_trace(graph_module, found, inputs, reference)
            with np.load(reference, allow_pickle=False) as free:
                actual = {s.node: _actual(s, *owner[s.intermediate.program_node], files) for s in found}
                spoilt = {s.program_node for s in found if not np.all(np.isfinite(actual[s.node]))}
                # What is computed from values that are not finite says nothing of its own layer.
                judged = {s.node: local[s.node] for s in found if spoilt.isdisjoint(s.before)}
                _run(_Led(graph_module, sample, actual, judged), inputs)
                for segment in found:
                    cumulative[segment.node].add(sample, free[str(segment.program_node)], actual[segment.node])
                for name in names:
                    outputs.setdefault(name, ErrorSums()).add(sample, free[f"{OUTPUT}{name}"], first[f"{OUTPUT}{name}"])
        finally:
            for file in files.values():
                file.close()
    numbers = {s.program_node: index for index, s in enumerate(found)}
    return {
        "intermediates": [
            {
                **s.intermediate.as_document(),
                "modules": list(s.modules),
                "before": [numbers[program_node] for program_node in s.before],
                "local": local[s.node].as_document(),
                "cumulative": cumulative[s.node].as_document(),
            }
            for s in found
        ],
        "outputs": {name: sums.as_document() for name, sums in outputs.items()},
    }


def _actual(segment: Segment, recorded: Recorded, number: int, files: Mapping[int, Any]) -> NDArray[np.float32]:
    values: NDArray[np.float32] = files[id(recorded)][f"{TENSOR}{number}"]
    return values if segment.intermediate.factor == 1.0 else values / np.float32(segment.intermediate.factor)


def _stream_trace(
    graph_module: torch.fx.GraphModule, found: Sequence[Segment], inputs: Mapping[str, NDArray[Any]], file: Path
) -> list[str]:
    """Write what the program gives on a sample, inside and at its outputs; return the outputs' names."""
    wanted = {s.node: str(s.program_node) for s in found}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:

        def write(name: str, value: torch.Tensor) -> None:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, value.contiguous().numpy(), allow_pickle=False)

        class Free(torch.fx.Interpreter):
            def run_node(self, n: torch.fx.Node) -> Any:
                value = super().run_node(n)
                if n in wanted:
                    write(wanted[n], value)
                return value

        results = _run(Free(graph_module), inputs)
        names = list(inputs_and_outputs(graph_module)[1])
        for name, value in zip(names, results, strict=True):
            write(f"{OUTPUT}{name}", value)
    return names


def _run(interpreter: torch.fx.Interpreter, inputs: Mapping[str, NDArray[Any]]) -> list[torch.Tensor]:
    order = inputs_and_outputs(interpreter.module)[0]  # type: ignore[arg-type]
    with torch.no_grad():
        result = interpreter.run(*(torch.from_numpy(inputs[n]) for n in order), enable_io_processing=False)
    return list(torch.utils._pytree.tree_leaves(result))


def inputs_and_outputs(graph_module: torch.fx.GraphModule) -> tuple[list[str], list[str]]:
    """Return the names of a program's inputs and of its outputs, which are a dictionary."""
    inputs = [str(n.target) for n in graph_module.graph.nodes if n.op == "placeholder"]
    specification = graph_module.graph._codegen.pytree_info.out_spec  # type: ignore[attr-defined]
    return inputs, [str(name) for name in specification.context]


class _Led(torch.fx.Interpreter):
    """Runs the program from the artifact's own values: behind an intermediate output goes on what the artifact had."""

    def __init__(
        self,
        graph_module: torch.fx.GraphModule,
        sample: int,
        actual: Mapping[torch.fx.Node, NDArray[np.float32]],
        sums: Mapping[torch.fx.Node, ErrorSums],
    ) -> None:
        super().__init__(graph_module)
        self._sample, self._actual, self._sums = sample, actual, sums

    def run_node(self, n: torch.fx.Node) -> Any:
        """Compute one node; compare and replace its value where it is recorded."""
        value = super().run_node(n)
        actual = self._actual.get(n)
        if actual is None:
            return value
        if n in self._sums:
            self._sums[n].add(self._sample, value.numpy(), actual)
        if actual.size != value.numel() or not np.all(np.isfinite(actual)):
            return value  # else all that follows would be blamed as well
        return torch.from_numpy(np.ascontiguousarray(actual)).reshape(value.shape)
