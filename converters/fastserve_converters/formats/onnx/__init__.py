"""ONNX: a portable graph of ai.onnx operators for any runtime, and faster ones for ONNX Runtime.

Portable: `fp32` and `fp16`, and `int8-static` and `a16w8` with QuantizeLinear and DequantizeLinear, all of a fixed
length, which NPUs ask for. For ONNX Runtime: operators of com.microsoft, any number of tokens up to the length, and the
same file on x86 and Arm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastserve_converters.artifact import Artifact
from fastserve_converters.formats import ExportJob, check_quantizes, min_tokens
from fastserve_converters.formats.onnx.products import PRODUCTS
from fastserve_converters.layer_map import group_by_module, write_layer_map
from fastserve_converters.precisions import FP32, INT8, RANGE_METHODS, Choices, Precision, WeightScheme

if TYPE_CHECKING:
    import onnx_ir as ir

    from fastserve_converters.models.model import TracedPart

NAME = "onnx"
ENGINE = "onnxruntime"
TOOLS = ("torch", "transformers", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "nncf", "numpy")
MODULES = ("torch", "transformers", "onnx", "onnx_ir", "onnxscript", "onnxruntime")

_INT4 = WeightScheme(4, 32, symmetric=False, scale="float16")
_INT8_GROUPED = WeightScheme(8, 128)
_SMOOTHING = "per-channel input ranges for SmoothQuant factors"
PRECISIONS: Mapping[str, Precision] = {
    "fp32": FP32,
    "fp16": Precision(None, None, "float16", base="fp32"),
    "fp32-fused": Precision(None, None, "float32", has_dynamic_length=True),
    "int8-dynamic": Precision(PRODUCTS, INT8, "dynamic-int8", has_dynamic_length=True, calibration=_SMOOTHING),
    "int8-embedding-int4": Precision(PRODUCTS, _INT4, "dynamic-int8", has_dynamic_length=True, calibration=_SMOOTHING),
    "int8-weight-only": Precision(_INT8_GROUPED, INT8, "float32", has_dynamic_length=True),
    "int4": Precision(_INT4, _INT4, "dynamic-int8", has_dynamic_length=True, rounding="gptq", calibration=_SMOOTHING),
    "int8-static": Precision(
        PRODUCTS,
        INT8,
        "int8",
        base="fp32",
        calibration="SmoothQuant and bias correction by NNCF; operators to leave in float",
        range_methods=RANGE_METHODS,
    ),
    "a16w8": Precision(INT8, INT8, "int16", base="fp32"),
    "mixed": Precision(
        None,
        None,
        "dynamic-int8",
        has_dynamic_length=True,
        rounding="gptq",
        calibration=_SMOOTHING,
        choices=Choices(linear=(PRODUCTS, _INT4, None), embedding=(INT8, _INT4)),
    ),
}


def export(job: ExportJob[TracedPart]) -> Artifact:
    """Write `model.onnx`; see `Format.export`."""
    from fastserve_converters.formats.onnx import files, reference_run

    if job.precision_spec.base is not None:
        model = _from_portable(job)
    elif job.precision_spec.has_dynamic_length:
        model = _for_onnx_runtime(job)
    else:
        model = _portable(job)
    files.save(model, job.out)
    files.update_layer_map(job.out, model)
    if job.weights or job.precision_spec.activations == "float16":
        _record_layer_sqnr(job)
    if job.precision_spec.has_static_ranges:
        reference_run.record_fake_quant_reference(job)
    return files.describe(job)


def _portable(job: ExportJob[TracedPart]) -> ir.Model:
    """Export the program, and write its layer map while nodes still tell where they come from."""
    from fastserve_converters.formats.onnx import gemms, portable
    from fastserve_runtime.sessions.lengths import takes_tokens

    model = portable.export_portable(job)
    if not takes_tokens({job.part.name: job.part.signature}):
        gemms.unfold_gemms(model)
    modules = dict(job.part.module.named_modules())
    portable.name_layers(model, modules)
    intermediates = portable.program_intermediates(model, job.part.program, list(modules))
    write_layer_map(job.out, group_by_module(portable.module_tensors(model, list(modules))), intermediates)
    portable.forget_sources(model)
    return model


def _from_portable(job: ExportJob[TracedPart]) -> ir.Model:
    from fastserve_converters.formats.onnx import files, half, layers, static

    assert job.base is not None
    base = job.base / files.MODEL
    files.copy_layer_map(job.base, job.out)
    if job.precision_spec.activations == "float16":
        return half.convert(base)
    if job.precision_spec.activations == "int8":
        modules = files.modules_by_tensor(job.base)
        model, kept_in_float = static.quantize_int8(base, job.part, job.calibration, job.range_method, modules)
        kept_in_float.write(job.out)
    else:
        model = static.quantize_a16w8(base, job.calibration)
    layers.quantize_embeddings(model, job.weights, has_quantizers=True)
    has_quantizers = any(node.op_type == "DequantizeLinear" for node in model.graph)
    check_quantizes(job, is_quantized=has_quantizers, taken="linear layers, convolutions and what lies between them")
    return model


def _for_onnx_runtime(job: ExportJob[TracedPart]) -> ir.Model:
    from fastserve_converters.formats.onnx import files, fusion, layers, linears, smoothing

    model = _portable(job)
    before = files.operator_counts(model)
    fusion.fuse(model)
    multiplies_int8 = job.precision_spec.activations == "dynamic-int8"
    balancing = smoothing.find_balancing(job.part.module, job.weights, job.calibration) if multiplies_int8 else {}
    layers.quantize_layers(model, job.weights, multiplies_int8=multiplies_int8, balancing=balancing)
    linears.write_float_linears(model)
    files.write_graph_optimization(job.out, before, files.operator_counts(model))
    return model


def _record_layer_sqnr(job: ExportJob[TracedPart]) -> None:
    from fastserve_converters.formats.onnx import files, layer_outputs
    from fastserve_converters.models.layer_groups import quantizable_layers
    from fastserve_converters.quantization.evidence import record_layer_sqnr

    found = layer_outputs.layer_tensors(job.out)
    tensors = {name: found[name] for name in quantizable_layers(job.part.module) if name in found}
    record_layer_sqnr(
        job.out,
        job.part.module,
        tensors,
        job.samples,
        layer_outputs.layer_reader(job.out / files.MODEL, tensors),
        min_tokens=min_tokens(job),
        source="the artifact in ONNX Runtime; projections inside a QAttention have no output of their own",
    )
