"""Decoders of text in ONNX, for ONNX Runtime on CPUs: one graph for prefill and decoding, see `decoder_graph`."""

from __future__ import annotations

from collections.abc import Mapping

from fastserve_converters.artifact import Artifact
from fastserve_converters.formats import DecoderJob
from fastserve_converters.precisions import FP32, Choices, Precision, WeightScheme

_INT8 = WeightScheme(8, 32, scale="float16")
_INT4 = WeightScheme(4, 32, symmetric=False, scale="float16")
PRECISIONS: Mapping[str, Precision] = {
    "fp32": FP32,
    "int8": Precision(_INT8, _INT8, "dynamic-int8"),
    "int4": Precision(_INT4, _INT4, "dynamic-int8", rounding="gptq"),
    "int4-embedding-int8": Precision(_INT4, _INT8, "dynamic-int8", rounding="gptq"),
    "source": Precision(_INT8, _INT8, "dynamic-int8", rounding="source"),
    "mixed": Precision(
        None,
        None,
        "dynamic-int8",
        rounding="gptq",
        choices=Choices(linear=(_INT8, _INT4), embedding=(_INT8, _INT4)),
    ),
}


def export(job: DecoderJob) -> Artifact:
    """Write `model.onnx`; see `DecoderFormat.export`."""
    from fastserve_converters.formats.onnx import files
    from fastserve_converters.formats.onnx.decoder_graph import signature, write_graph
    from fastserve_converters.formats.onnx.genai import write_genai_config

    model = write_graph(job.form, job.weights)
    files.save(model, job.out)
    write_genai_config(job, files.MODEL)
    return files.described(job.out, "decoder", signature(job.form))
