"""The graph of ai.onnx operators alone, as PyTorch's exporter writes it, with names that tell of torch modules.

A node and the tensor that a layer outputs are called by the layer's module (`encoder.layer.0.output.dense`), from the
second call of a shared layer on with its number behind (`…dense#2`). Every later pass finds layers by these names.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fastserve_converters.diagnosis.program_nodes import moves_only, nodes_of_program, numbered, operator_kind
from fastserve_converters.formats import ExportJob
from fastserve_converters.layer_map import IntermediateOutput, ProgramNode, innermost_module

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

    from fastserve_converters.models.model import TracedPart

OPSET = 20
BIAS = "/bias"
"""Behind a layer's name: the node that adds its bias."""
_SCOPES = "pkg.torch.onnx.name_scopes"
_OPERATOR = "namespace"
"""Metadata that ends with what the node comes from: `…/head: SentencePooling/add: aten.add.Tensor`."""
_LARGEST_SHARED = 2**31


def export_portable(job: ExportJob[TracedPart]) -> ir.Model:
    """Export the job's program; metadata of nodes still tells their torch scopes."""
    import torch
    from onnx_ir.passes import common

    program = torch.onnx.export(
        job.part.program,
        (),
        kwargs=dict(job.part.example),
        dynamo=True,
        external_data=False,
        verbose=False,
        opset_version=OPSET,
        input_names=[t.name for t in job.part.signature.inputs],
        output_names=[t.name for t in job.part.signature.outputs],
    )
    assert program is not None
    model: ir.Model = program.model
    # Layers that share weights get a folded transpose each.
    common.DeduplicateInitializersPass(_LARGEST_SHARED)(model)
    _name_dims(model, job)
    return model


def module_tensors(model: ir.Model, modules: list[str]) -> Iterator[tuple[str | None, str]]:
    """Give (module or None, tensor) for all nodes and initializers of a graph that has its scopes still."""
    for node in model.graph:
        module = innermost_module(scopes_of(node), modules)
        yield from ((module, str(output.name)) for output in node.outputs)
    for name in model.graph.initializers:
        yield innermost_module([name.rpartition(".")[0]], modules), name


def program_intermediates(
    model: ir.Model, program: torch.export.ExportedProgram, modules: list[str]
) -> list[IntermediateOutput]:
    """Return the tensors that hold what operators of the program give, for a graph that has its scopes still.

    Where the exporter left out some operators of a kind in a module, which those are cannot be told, and none is
    returned.

    Args:
        model: after `name_layers`.
        program: what it was exported from.
        modules: names of the torch modules.
    """
    graph_module: Any = program.module(check_guards=False)
    known = list(nodes_of_program(graph_module, modules).values())
    found: dict[str, tuple[str, str, ir.Node]] = {}
    for node in model.graph:
        scopes = scopes_of(node)
        kind = operator_kind(node.metadata_props.get(_OPERATOR, "").rpartition(": ")[2])
        if scopes and not moves_only(kind):
            # Of the nodes that one operator became, the last gives its result.
            found[scopes[-1]] = (innermost_module(scopes, modules) or "", kind, node)
    program_nodes = list(numbered((module, kind) for module, kind, _ in found.values()))
    counts, exported = (Counter((p.module, p.operator) for p in listed) for listed in (known, program_nodes))
    at: dict[ProgramNode, ir.Node] = dict(zip(program_nodes, (node for _, _, node in found.values()), strict=True))
    return [
        IntermediateOutput(program_node, str(at[program_node].outputs[0].name), at[program_node].op_type)
        for program_node in known
        if program_node in at
        and counts[program_node.module, program_node.operator] == exported[program_node.module, program_node.operator]
    ]


def scopes_of(node: ir.Node) -> list[str]:
    """Return the names of the torch modules that a node comes from, outermost first."""
    notes = node.metadata_props.get(_SCOPES)
    return [s for s in ast.literal_eval(notes) if s] if notes else []


def name_layers(model: ir.Model, modules: Mapping[str, Any]) -> None:
    """Name the nodes and outputs of linear layers, embeddings and norms by their modules.

    Args:
        model: with scopes in its metadata.
        modules: torch modules by name.
    """
    import torch

    kinds = {
        "MatMul": torch.nn.Linear,
        "Gemm": torch.nn.Linear,
        "Gather": torch.nn.Embedding,
        "LayerNormalization": torch.nn.LayerNorm,
    }
    calls: Counter[str] = Counter()
    for node in model.graph:
        scope = innermost_module(scopes_of(node), modules)
        kind = kinds.get(node.op_type)
        if scope is None or kind is None or not isinstance(modules[scope], kind):
            continue
        calls[scope] += 1
        name = scope if calls[scope] == 1 else f"{scope}#{calls[scope]}"
        node.name = name
        last = node
        following = list(node.outputs[0].consumers())
        if node.op_type == "MatMul" and len(following) == 1 and following[0].op_type == "Add":
            (last,) = following
            last.name = f"{name}{BIAS}"
            node.outputs[0].name = f"{name}/product"
        _rename(model, last.outputs[0], name)


def module_of(node_name: str | None) -> str:
    """Return the torch module that a node's name tells of."""
    return (node_name or "").removesuffix(BIAS).partition("#")[0]


def forget_sources(model: ir.Model) -> None:
    """Drop the exporter's notes: they hold stack traces with this machine's paths."""
    from onnx_ir.passes import common

    common.ClearMetadataAndDocStringPass()(model)
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
        value.doc_string = None
    for node in model.graph:
        for output in node.outputs:
            output.metadata_props.clear()
    model.metadata_props.clear()
    model.graph.metadata_props.clear()


def _rename(model: ir.Model, value: ir.Value, name: str) -> None:
    if value not in model.graph.outputs:
        value.name = name


def _name_dims(model: ir.Model, job: ExportJob[TracedPart]) -> None:
    """Give open dimensions the signature's names instead of the tracer's numbers."""
    import onnx_ir as ir

    pairs = zip(
        (*model.graph.inputs, *model.graph.outputs),
        (*job.part.signature.inputs, *job.part.signature.outputs),
        strict=True,
    )
    names: dict[str, str] = {}
    for value, spec in pairs:
        for old, new in zip(value.shape or (), spec.dims, strict=False):
            if isinstance(old, ir.SymbolicDim) and old.value is not None and not isinstance(new, int):
                names[str(old.value)] = new.symbol
    for value in (*model.graph.inputs, *model.graph.outputs, *(v for n in model.graph for v in n.outputs)):
        if value.shape is not None and any(isinstance(d, ir.SymbolicDim) for d in value.shape):
            dims = [d if isinstance(d, int) else names.get(str(d.value), d.value) for d in value.shape]
            value.shape = ir.Shape(dims)
