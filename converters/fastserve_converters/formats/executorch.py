"""ExecuTorch programs lowered to XNNPACK, and dynamic int8 by PT2E quantization.

Linear layers run in XNNPACK with int8 weights per channel and activations quantized by what each call brings.
Embedding tables are stored in int8 with a scale for each row, by ExecuTorch's `embedding_byte` operator. Indices are
never quantized: the quantizer is set by operator, not for the whole graph.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastserve_converters.artifact import Artifact, count_operators
from fastserve_converters.formats import ExportJob
from fastserve_converters.layer_map import group_by_module, innermost_module, write_layer_map
from fastserve_runtime.manifest import ExpectedPlacement, Graph, Requirement

if TYPE_CHECKING:
    import torch

NAME = "executorch"
ENGINE = "executorch"
TOOLS = ("torch", "transformers", "executorch", "torchao", "numpy")
MODULES = ("torch", "transformers", "executorch", "torchao")
PRECISIONS: Mapping[str, str | None] = {"fp32": None, "int8-dynamic": None}

MODEL = "model.pte"
METHOD = "forward"
DEBUG_HANDLES = "debug_handles.json"


def export(job: ExportJob) -> Artifact:
    """Write `model.pte`; see `Format.export`."""
    import executorch.kernels.quantized  # noqa: F401 -- registers the out variant of embedding_byte
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.devtools.backend_debug import get_delegation_info
    from executorch.exir import to_edge_transform_and_lower

    program = job.program if job.precision == "fp32" else _quantized(job)
    modules = [name for name, _ in job.module.named_modules()]
    edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    delegation = get_delegation_info(edge.exported_program().graph_module)
    lowered = edge.to_executorch()
    with (job.out / MODEL).open("wb") as file:
        lowered.write_to_file(file)
    write_layer_map(job.out, group_by_module(_nodes_of_modules(program, modules)))
    handles = {"debug_handles": lowered.debug_handle_map, "delegates": lowered.delegate_map}
    (job.out / DEBUG_HANDLES).write_text(json.dumps(handles, default=str))
    placed = int(delegation.num_delegated_nodes)
    return Artifact(
        files=(MODEL,),
        graphs={"main": Graph(MODEL, METHOD, job.signature)},
        operators=count_operators(_operators(lowered.exported_program().graph)),
        expected_placement=ExpectedPlacement(
            "cpu", "XNNPACK", placed, placed + int(delegation.num_non_delegated_nodes)
        ),
        requires=Requirement(ENGINE, _release(), ("XnnpackBackend",), ()),
    )


def _quantized(job: ExportJob) -> torch.export.ExportedProgram:
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = XNNPACKQuantizer()
    quantizer.set_operator_type(
        torch.ops.aten.linear.default, get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True)
    )
    prepared = prepare_pt2e(job.program.module(check_guards=False), quantizer)
    with torch.no_grad():
        prepared(**job.example)
    converted = convert_pt2e(prepared)
    _quantize_embeddings(converted)
    return torch.export.export(converted, (), dict(job.example))


def _quantize_embeddings(graph_module: torch.fx.GraphModule) -> None:
    """Replace every embedding by `embedding_byte`: int8 rows, symmetric, one scale a row."""
    import torch

    graph = graph_module.graph
    tables = dict(graph_module.named_parameters()) | dict(graph_module.named_buffers())
    found = [n for n in graph.nodes if n.target == torch.ops.aten.embedding.default]
    for number, node in enumerate(found):
        table = tables[str(node.args[0].target)].detach()
        scales = (table.abs().amax(1, keepdim=True) / 127).clamp(min=1e-8)
        graph_module.register_buffer(f"embedding_{number}", torch.round(table / scales).to(torch.int8))
        graph_module.register_buffer(f"embedding_{number}_scales", scales)
        with graph.inserting_before(node):
            rows = graph.get_attr(f"embedding_{number}")
            factors = graph.get_attr(f"embedding_{number}_scales")
            # The kernel takes 64-bit indices only.
            indices = graph.call_function(torch.ops.aten.to.dtype, (node.args[1], torch.int64))
            byte = torch.ops.quantized_decomposed.embedding_byte.default
            replacement = graph.call_function(byte, (rows, factors, None, -127, 127, indices))
        replacement.meta |= {k: v for k, v in node.meta.items() if k in {"nn_module_stack", "stack_trace"}}
        node.replace_all_uses_with(replacement)
        graph.erase_node(node)
    graph.eliminate_dead_code()
    graph_module.delete_all_unused_submodules()
    graph.lint()
    graph_module.recompile()


def _nodes_of_modules(program: Any, modules: list[str]) -> list[tuple[str | None, str]]:
    pairs = []
    for node in program.graph.nodes:
        stack = node.meta.get("nn_module_stack") or {}
        # Scopes are written as attribute accesses from the exported root.
        scopes = [str(path).removeprefix("L['self'].").replace("L['self']", "") for path, _ in stack.values()]
        pairs.append((innermost_module(scopes, modules), node.name))
    return pairs


def _operators(graph: Any) -> Counter[tuple[str, str, int]]:
    """Count kernel calls and delegate calls of the final program; allocations are no operators."""
    counts: Counter[tuple[str, str, int]] = Counter()
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        target = node.target
        schema = getattr(target, "_schema", None)
        if schema is not None:
            domain, _, name = str(schema.name).partition("::")
            overload = str(schema.overload_name)
            counts[domain, f"{name}.{overload}" if overload else name, 1] += 1
        elif "call_delegate" in str(target):
            counts["delegate", "XnnpackBackend", 1] += 1
    return counts


def _release() -> str:
    from importlib.metadata import version

    return version("executorch")
