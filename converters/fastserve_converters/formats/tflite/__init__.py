"""TFLite by litert-torch, for any number of tokens, with every precision's quantized weights written into it.

The fastest kernels on the CPU (XNNPACK) take float activations and quantize them row by row as they multiply with int8
or int4 weights; activations of scales set beforehand are for processors that have integers only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_converters.artifact import Artifact, count_operators
from fastserve_converters.formats import ExportJob, check_quantizes, min_tokens
from fastserve_converters.layer_map import (
    IntermediateOutput,
    ModulePaths,
    group_by_module,
    kept_intermediates,
    read_intermediates,
    write_layer_map,
)
from fastserve_converters.precisions import INT8, RANGE_METHODS, Choices, Precision, WeightScheme
from fastserve_runtime.bundle.manifest import ExpectedPlacement, Graph, Requirement

if TYPE_CHECKING:
    from fastserve_converters.formats.tflite.form import Form
    from fastserve_converters.models.model import TracedPart

NAME = "tflite"
ENGINE = "litert"
TOOLS = (
    "torch",
    "transformers",
    "litert-torch",
    "litert-converter",
    "ai-edge-quantizer",
    "ai-edge-litert",
    "numpy",
)
MODULES = ("torch", "transformers", "litert_torch", "ai_edge_quantizer", "ai_edge_litert")

_INT4 = WeightScheme(4, group=32, scale="bfloat16")
"""The file holds scales in float16, but XNNPACK rounds them to bfloat16 when it packs the weights."""
_INT4_EMBEDDING = WeightScheme(4, group=64, scale="float16")
"""Six float16 scales for a row of 384 take what one scale would: a float and, in the file, a zero point of 64 bits."""
_INT4_FINE_EMBEDDING = WeightScheme(4, group=32, scale="float16")
"""Where all layers have four bits, what the finer blocks lose less is worth their size; a mix spends it better."""

PRECISIONS: Mapping[str, Precision] = {
    "fp32": Precision(None, None, "float32", has_dynamic_length=True),
    "fp16": Precision(None, None, "float32", base="fp32", has_dynamic_length=True, floats="float16"),
    "int8-dynamic": Precision(INT8, INT8, "dynamic-int8", base="fp32", has_dynamic_length=True),
    "int8-embedding-int4": Precision(INT8, _INT4_EMBEDDING, "dynamic-int8", base="fp32", has_dynamic_length=True),
    "int8-weight-only": Precision(INT8, INT8, "float32", base="fp32", has_dynamic_length=True),
    "int4": Precision(
        _INT4, _INT4_FINE_EMBEDDING, "dynamic-int8", base="fp32", has_dynamic_length=True, rounding="gptq"
    ),
    "int8-static": Precision(INT8, INT8, "int8", base="fp32", has_dynamic_length=True, range_methods=RANGE_METHODS),
    "a16w8": Precision(INT8, INT8, "int16", base="fp32", has_dynamic_length=True),
    "mixed": Precision(
        None,
        None,
        "dynamic-int8",
        base="fp32",
        has_dynamic_length=True,
        rounding="gptq",
        choices=Choices((None, INT8, _INT4), (None, INT8, _INT4_EMBEDDING)),
    ),
}

_TAKEN = "linear layers by ranges, and the weights of convolutions and embeddings"
_STATIC_BITS = {"int8": 8, "int16": 16}

MODEL = "model.tflite"
SIGNATURE = "serving_default"
_MIN_RUNTIME = "1.0"
"""The oldest release of ai-edge-litert; 1.0.1 ran MiniLM right in all precisions but those with blocks."""
_MIN_RUNTIME_OF_BLOCKS = "2.1.0"
"""Releases up to 1.1.2 refuse int4 in blocks, and 1.4.0 and 2.0.2 compute nonsense with it; from 2.1.0 it is right."""


def export(job: ExportJob[TracedPart]) -> Artifact:
    """Write `model.tflite`; see `Format.export`."""
    from fastserve_converters.formats.tflite.conversion import convert
    from fastserve_converters.formats.tflite.file import has_quantized_tensors, read_model, write_model
    from fastserve_converters.formats.tflite.form import Form
    from fastserve_converters.formats.tflite.program_conversion import convert_program
    from fastserve_converters.formats.tflite.quantized_weights import (
        halve_floats,
        multiply_in_float,
        round_inputs_with_zero_points,
        store_quantized_weights,
    )
    from fastserve_converters.formats.tflite.static import quantize_static
    from fastserve_runtime.sessions.lengths import takes_tokens

    form = Form(job.part.module, job.weights)
    path = job.out / MODEL
    source = path if job.base is None else job.base / MODEL
    if job.base is None:
        if takes_tokens({job.part.name: job.part.signature}):
            convert(form.module, job.part.example["input_ids"].shape[1], path, tuple(job.part.example))
        else:
            convert_program(form.module, job.part, path)
    if job.precision_spec.activations in _STATIC_BITS:
        quantize_static(source, path, job.calibration, _STATIC_BITS[job.precision_spec.activations], job.range_method)
        check_quantizes(job, is_quantized=has_quantized_tensors(read_model(path)), taken=_TAKEN)
        _record_fake_quant_reference(job, path)
    elif job.precision != "fp32":
        model = read_model(source)
        store_quantized_weights(model, form.module, form.weights)
        if job.precision == "fp16":
            halve_floats(model)
        elif job.precision_spec.activations == "float32":
            multiply_in_float(model)
        round_inputs_with_zero_points(model)
        write_model(model, path)
    if job.precision != "fp32":
        _record_layer_sqnr(job, form, path)
    return _describe(job, path, _min_runtime(form), _intermediates(job, form, path))


def _intermediates(job: ExportJob[TracedPart], form: Form, path: Path) -> list[IntermediateOutput]:
    """Find the intermediate outputs of the float file, and hand them on to those that are made from it."""
    from fastserve_converters.formats.tflite.file import read_model
    from fastserve_converters.formats.tflite.intermediates import exported_operators, find_intermediates
    from fastserve_runtime.sessions.lengths import takes_tokens

    if not takes_tokens({job.part.name: job.part.signature}):
        return []  # they are found by running texts of several lengths
    if job.base is None:
        return find_intermediates(
            path, job.part.program, [name for name, _ in job.part.module.named_modules()], form.factors
        )
    return kept_intermediates(read_intermediates(job.base), exported_operators(read_model(path)))


def _record_fake_quant_reference(job: ExportJob[TracedPart], path: Path) -> None:
    from fastserve_converters.formats.tflite.reference_kernels import EXECUTOR, reference_runner
    from fastserve_converters.quantization.fake_quant_reference import record_outputs

    run = reference_runner(path)
    record_outputs(job.out, job.part, job.samples, run, min_tokens=min_tokens(job), executor=EXECUTOR)


def _record_layer_sqnr(job: ExportJob[TracedPart], form: Form, path: Path) -> None:
    from fastserve_converters.formats.tflite.layers import layer_reader, layer_tensors
    from fastserve_converters.models.layer_groups import quantizable_layers
    from fastserve_converters.quantization.evidence import record_layer_sqnr

    wanted = quantizable_layers(job.part.module)
    tensors = {name: tensor for name, tensor in layer_tensors(path).items() if name in wanted}
    record_layer_sqnr(
        job.out,
        job.part.module,
        tensors,
        job.samples,
        layer_reader(path, tensors, form.factors),
        min_tokens=min_tokens(job),
        source="the artifact in LiteRT",
    )


def _min_runtime(form: Form) -> str:
    has_blocks = any(weight.scale.shape[1] > 1 for weight in form.weights.values())
    return _MIN_RUNTIME_OF_BLOCKS if has_blocks else _MIN_RUNTIME


def _describe(
    job: ExportJob[TracedPart], path: Path, min_runtime: str, intermediates: list[IntermediateOutput]
) -> Artifact:
    from ai_edge_litert.interpreter import Interpreter

    from fastserve_converters.formats.tflite.file import count_all, read_model, tensor_name
    from fastserve_converters.formats.tflite.layers import module_of
    from fastserve_converters.formats.tflite.program_conversion import narrowed
    from fastserve_runtime.engines.litert import placed_operators

    model: Any = read_model(path)
    paths = ModulePaths((name, type(m).__name__) for name, m in job.part.module.named_modules())
    names = [tensor_name(t) for graph in model.subgraphs for t in graph.tensors]
    write_layer_map(job.out, group_by_module((module_of(n) or paths.find(n), n) for n in names), intermediates)
    delegated = Interpreter(model_path=str(path), num_threads=1)
    delegated.allocate_tensors()
    placed = placed_operators(delegated._get_ops_details())
    return Artifact(
        files=(MODEL,),
        graphs={"main": Graph(MODEL, SIGNATURE, narrowed(job.part.signature))},
        operators=count_operators(count_all(model)),
        expected_placement=ExpectedPlacement("cpu", "XNNPACK", placed["XNNPACK"], sum(placed.values())),
        requires=Requirement(ENGINE, min_runtime, ("XNNPACK",), ()),
    )
