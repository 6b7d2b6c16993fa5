"""ExecuTorch programs lowered to XNNPACK.

Activations stay float32, are quantized by token at run time, or by ranges of calibration data. Weights of linear layers
are float32, float16, int8 with a scale a row, or int4 in groups, all of which XNNPACK reads; embeddings are read
by ExecuTorch's own kernels. Token indices are never quantized. The length is dynamic: XNNPACK adapts to each call's.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from fastserve_converters.artifact import Artifact, count_operators
from fastserve_converters.formats import ExportJob, check_quantizes, min_tokens
from fastserve_converters.layer_map import IntermediateOutput, group_by_module, write_layer_map
from fastserve_converters.models.dynamic_shapes import dynamic_shapes
from fastserve_converters.precisions import INT8, RANGE_METHODS, Choices, Precision, WeightScheme
from fastserve_runtime.bundle.manifest import ExpectedPlacement, Graph, Requirement

if TYPE_CHECKING:
    import torch

    from fastserve_converters.models.model import TracedPart

NAME = "executorch"
ENGINE = "executorch"
TOOLS = ("torch", "transformers", "executorch", "torchao", "nncf", "numpy")
MODULES = ("torch", "transformers", "executorch", "torchao")

_INT4 = WeightScheme(4, group=32, scale="bfloat16")
"""XNNPACK's grouped int4 has no zero points, and stores its scales in 16 bits."""
_INT4_EMBEDDING = WeightScheme(4, group=48, symmetric=False, scale="float16")

PRECISIONS: Mapping[str, Precision] = {
    "fp32": Precision(None, None, "float32", has_dynamic_length=True),
    "fp16": Precision(None, None, "float32", has_dynamic_length=True, floats="float16"),
    "int8-dynamic": Precision(INT8, INT8, "dynamic-int8", has_dynamic_length=True),
    "int8-embedding-int4": Precision(INT8, _INT4_EMBEDDING, "dynamic-int8", has_dynamic_length=True),
    "int8-weight-only": Precision(INT8, INT8, "float32", has_dynamic_length=True),
    "int4": Precision(_INT4, _INT4_EMBEDDING, "dynamic-int8", has_dynamic_length=True, rounding="gptq"),
    "int8-static": Precision(
        INT8, INT8, "int8", has_dynamic_length=True, calibration="SmoothQuant by NNCF", range_methods=RANGE_METHODS
    ),
    "a16w8": Precision(INT8, INT8, "int16", has_dynamic_length=True),
    "mixed": Precision(
        None,
        None,
        "dynamic-int8",
        has_dynamic_length=True,
        rounding="gptq",
        choices=Choices((None, INT8, _INT4), (None, INT8, _INT4_EMBEDDING)),
    ),
}

MODEL = "model.pte"
INTERMEDIATES_MODEL = "intermediates.pte"
METHOD = "forward"
DEBUG_HANDLES = "debug_handles.json"


def export(job: ExportJob[TracedPart]) -> Artifact:
    """Write `model.pte`; see `Format.export`."""
    from fastserve_converters.formats.executorch.evidence import record_evidence
    from fastserve_converters.formats.executorch.layers import nodes_of_modules

    program = rewritten(job)
    modules = [name for name, _ in job.part.module.named_modules()]
    write_layer_map(job.out, group_by_module(nodes_of_modules(program, modules)))
    record_evidence(job, program)
    lowered, delegated, operators = lower(program, job.precision)
    with (job.out / MODEL).open("wb") as file:
        lowered.write_to_file(file)
    handles = {"debug_handles": lowered.debug_handle_map, "delegates": lowered.delegate_map}
    (job.out / DEBUG_HANDLES).write_text(json.dumps(handles, default=str))
    return Artifact(
        files=(MODEL,),
        graphs={"main": Graph(MODEL, METHOD, job.part.signature)},
        operators=count_operators(count_calls(lowered.exported_program().graph)),
        expected_placement=ExpectedPlacement("cpu", "XNNPACK", delegated, operators),
        requires=Requirement(ENGINE, _release(), ("XnnpackBackend",), ()),
    )


def export_with_intermediates(job: ExportJob[TracedPart]) -> list[IntermediateOutput]:
    """Write `intermediates.pte`, which also gives what lies inside its delegates; see `FormatWithIntermediates`."""
    from fastserve_converters.formats.executorch.with_intermediates import with_further_outputs

    graph_module, intermediates = with_further_outputs(job)
    lowered, _, _ = lower(rewritten(job, graph_module), job.precision)
    with (job.out / INTERMEDIATES_MODEL).open("wb") as file:
        lowered.write_to_file(file)
    return intermediates


def lower(program: torch.export.ExportedProgram, precision: str) -> tuple[Any, int, int]:
    """Lower a program to XNNPACK.

    Args:
        program: as `rewritten` returns it.
        precision: of the artifact.

    Returns:
        The program's manager, and how many operators XNNPACK took of how many.
    """
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    from fastserve_converters.formats.executorch.delegation import (
        half_weights_written,
        placed_nodes,
        provenance_shared,
        xnnpack_partitioner,
    )

    # It would check the program after each of some hundred passes; what comes out is run and compared.
    unchecked = EdgeCompileConfig(_check_ir_validity=False)
    with provenance_shared(), half_weights_written() if precision == "fp16" else nullcontext():
        edge = to_edge_transform_and_lower(program, partitioner=[xnnpack_partitioner()], compile_config=unchecked)
        delegated, operators = placed_nodes(edge.exported_program().graph_module)
        return edge.to_executorch(), delegated, operators


def rewritten(job: ExportJob[TracedPart], source: torch.fx.GraphModule | None = None) -> torch.export.ExportedProgram:
    """Return the program as it is lowered: without its batch dimension, reading its layers' quantized weights.

    Args:
        job: what is exported.
        source: the unlifted program in place of the job's own.
    """
    import torch

    from fastserve_converters.formats.executorch.batchless import without_batch
    from fastserve_converters.formats.executorch.quantized_weights import with_half_embeddings, with_quantized_weights
    from fastserve_converters.models.samples import single_samples
    from fastserve_runtime.sessions.lengths import takes_tokens

    graph_module: Any = job.part.program.module(check_guards=False) if source is None else source
    if takes_tokens({job.part.name: job.part.signature}):
        # Written for what encoders of texts are made of; other models may do more with the first axis.
        graph_module = without_batch(graph_module)
    if job.precision == "fp16":
        check_quantizes(job, is_quantized=bool(job.part.layers), taken="weights of linear layers and embeddings")
        with_half_embeddings(graph_module)
    if job.precision_spec.activations == "int8":
        return _with_static_ranges(job, graph_module)
    with_quantized_weights(
        graph_module, job.weights, dynamic_activations=job.precision_spec.activations == "dynamic-int8"
    )
    program = torch.export.export(
        graph_module, (), dict(job.part.example), dynamic_shapes=dynamic_shapes(job.part.signature)
    )
    if job.precision_spec.activations != "int16":
        return program
    from fastserve_converters.formats.executorch.int16 import with_int16_activations

    ranged = with_int16_activations(program, single_samples(job.calibration, min_tokens=min_tokens(job)))
    return torch.export.export(ranged, (), dict(job.part.example), dynamic_shapes=dynamic_shapes(job.part.signature))


def _with_static_ranges(job: ExportJob[TracedPart], graph_module: torch.fx.GraphModule) -> torch.export.ExportedProgram:
    """Quantize by ranges; linear layers' weights are not the job's, since SmoothQuant changes them."""
    import torch

    from fastserve_converters.formats.executorch.quantized_weights import with_quantized_weights
    from fastserve_converters.formats.executorch.static import with_static_ranges
    from fastserve_converters.models.samples import single_samples

    tables = {n: w for n, w in job.weights.items() if isinstance(job.part.module.get_submodule(n), torch.nn.Embedding)}
    with_quantized_weights(graph_module, tables, dynamic_activations=False)
    # NNCF calls programs by position.
    graph_module.graph.set_codegen(torch.fx.graph.CodeGen())
    graph_module._forward_pre_hooks.clear()  # which look for inputs by name
    graph_module.recompile()
    example = tuple(job.part.example.values())
    by_name = dynamic_shapes(job.part.signature)
    shapes = None if by_name is None else tuple(by_name[name] for name in job.part.example)
    samples = single_samples(job.calibration, min_tokens=min_tokens(job))
    exported = torch.export.export(graph_module, example, dynamic_shapes=shapes)
    ranged, _ = with_static_ranges(exported, samples, job.range_method)
    is_quantized = any("quantized_decomposed" in str(node.target) for node in ranged.graph.nodes)
    check_quantizes(job, is_quantized=is_quantized, taken="linear layers and embeddings")
    return torch.export.export(ranged, example, dynamic_shapes=shapes)


def count_calls(graph: Any) -> Counter[tuple[str, str, int]]:
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
