"""Decoders of text in ONNX, for ONNX Runtime on CPUs: one graph for prefill and decoding, see `decoder_graph`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastserve_converters.artifact import Artifact
from fastserve_converters.formats import ExportJob
from fastserve_converters.precisions import Precision, WeightScheme, decoder_precisions

if TYPE_CHECKING:
    from fastserve_converters.models.cached_part import CachedPart

_INT8 = WeightScheme(8, 32, scale="float16")
_INT4 = WeightScheme(4, 32, symmetric=False, scale="float16")
PRECISIONS: Mapping[str, Precision] = {
    **decoder_precisions(_INT8, _INT4, _INT8, _INT4),
    "source": Precision(_INT8, _INT8, "dynamic-int8", rounding="source"),
}
NAMES_INTERMEDIATES = True


def export(job: ExportJob[CachedPart]) -> Artifact:
    """Write `model.onnx` and its layer map; see `CachedExporter.export`."""
    from fastserve_converters.formats.onnx import files
    from fastserve_converters.formats.onnx.decoder_graph import signature, write_graph
    from fastserve_converters.formats.onnx.decoder_layer_map import write_decoder_layer_map
    from fastserve_converters.formats.onnx.genai import write_genai_config

    model = write_graph(job.part.module, job.weights)
    files.save(model, job.out)
    write_decoder_layer_map(job.out, model, job.part.module)
    write_genai_config(job, files.MODEL)
    return files.described(job.out, "decoder", signature(job.part.module))
