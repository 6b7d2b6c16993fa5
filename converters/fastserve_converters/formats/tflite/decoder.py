"""Decoders of text in TFLite, for LiteRT on CPUs: one graph for prefill and decoding, see `decoder_graph`.

The file is written directly, without a converter. Weights are int8 with a scale for each row, or int4 with one for each
32 columns; XNNPACK rounds activations to 8 bits row by row. A table that is embedding and head at once is stored once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fastserve_converters.artifact import Artifact, count_operators
from fastserve_converters.formats import ExportJob
from fastserve_converters.precisions import INT8, Precision, WeightScheme, decoder_precisions
from fastserve_runtime.bundle.manifest import ExpectedPlacement, Graph, Requirement

if TYPE_CHECKING:
    from fastserve_converters.models.cached_part import CachedPart

_INT4 = WeightScheme(4, 32, scale="bfloat16")
"""The file holds scales in float16, but XNNPACK rounds them to bfloat16 when it packs the weights."""
PRECISIONS: Mapping[str, Precision] = decoder_precisions(INT8, _INT4, INT8)

MODEL = "model.tflite"
_ENGINE = "litert"
_MIN_RUNTIME = "1.4.0"
_MIN_RUNTIME_OF_BLOCKS = "2.1.0"
"""Releases 1.4.0 and 2.0.2 run float and int8 decoders right, and compute nonsense with int4 in blocks."""


def export(job: ExportJob[CachedPart]) -> Artifact:
    """Write `model.tflite`; see `CachedExporter.export`."""
    from fastserve_converters.formats.tflite.decoder_graph import GRAPH, decoder_model, signature
    from fastserve_converters.formats.tflite.file import count_all, tensor_name
    from fastserve_converters.layer_map import group_by_module, write_layer_map

    model = decoder_model(job.part.module, job.weights).write(job.out / MODEL)
    modules = {name for name, _ in job.part.module.named_modules()}
    names = [tensor_name(tensor) for graph in model.subgraphs for tensor in graph.tensors]
    owners = [(name.rpartition(".")[0], name) for name in names]
    write_layer_map(job.out, group_by_module((owner, name) for owner, name in owners if owner in modules))
    return Artifact(
        files=(MODEL,),
        graphs={GRAPH: Graph(MODEL, GRAPH, signature(job.part.module))},
        operators=count_operators(count_all(model)),
        expected_placement=_placement(job.out / MODEL),
        requires=Requirement(_ENGINE, _min_runtime(job), ("XNNPACK",), ()),
    )


def _min_runtime(job: ExportJob[CachedPart]) -> str:
    has_blocks = any(weight.scale.shape[1] > 1 for weight in job.weights.values())
    return _MIN_RUNTIME_OF_BLOCKS if has_blocks else _MIN_RUNTIME


def _placement(path: Path) -> ExpectedPlacement:
    from ai_edge_litert.interpreter import Interpreter

    from fastserve_runtime.engines.litert import placed_operators

    delegated = Interpreter(model_path=str(path), num_threads=1)
    delegated.allocate_tensors()
    placed = placed_operators(delegated._get_ops_details())
    return ExpectedPlacement("cpu", "XNNPACK", placed["XNNPACK"], sum(placed.values()))
