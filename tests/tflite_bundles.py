"""Small bundles of TFLite models that tests make by hand, operator by operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fastserve_converters.formats.tflite.writing import GraphWriter, ModelWriter, Value
from fastserve_converters.precisions import INT8
from fastserve_converters.quantized_weight import QuantizedWeight
from fastserve_runtime.bundle.golden import read_golden, write_golden
from manifests import GOLDEN, LENGTH, MODEL, WIDTH, file_entries, tensor, text_bundle, word_vectors, write_directory

SIGNATURE = "serving_default"
OUTPUT = "sentence_embedding"
FILE = "variants/first/model.tflite"
MAX = 8.0
"""No embedding of these bundles has a larger value."""

End = Callable[[GraphWriter, Value], Value]


def text_model(end: End | None = None, *, length: int = LENGTH, vectors: np.ndarray | None = None) -> bytes:
    """A TFLite model that sums the vectors of all tokens, as `manifests.text_model` does.

    Args:
        end: adds operators behind the sum.
        length: how many tokens it takes; `writing.OPEN` for any.
        vectors: one a token; those of `manifests` if left out.
    """
    model = ModelWriter()
    graph = model.graph(SIGNATURE)
    ids = graph.input("input_ids", (1, length), "INT32")
    mask = graph.input("attention_mask", (1, length))
    table = graph.constant("vectors", word_vectors() if vectors is None else vectors)
    column = graph.constant("column", np.array([-1, 1], np.int32))
    row = graph.constant("row", np.array([-1], np.int32))
    flat = graph.operator("RESHAPE", [ids, row], (length,), "ReshapeOptions", kind="INT32")
    found = graph.operator("EMBEDDING_LOOKUP", [flat, table], (length, WIDTH))
    there = graph.operator("RESHAPE", [mask, column], (length, 1), "ReshapeOptions")
    masked = graph.operator("MUL", [found, there], (length, WIDTH), "MulOptions")
    axis = graph.constant("axis", np.array([0], np.int32))
    total = graph.operator("SUM", [masked, axis], (1, WIDTH), "ReducerOptions", settings={"keepDims": True})
    graph.output(OUTPUT, total if end is None else end(graph, total))
    return model.content()


def tflite_bundle(
    location: Path,
    content: bytes,
    *,
    is_open: bool = False,
    names: Sequence[str] = ("main",),
    outputs: Callable[[np.ndarray], np.ndarray] = lambda embeddings: embeddings,
    **changes: Any,
) -> Path:
    """Write a bundle whose one variant is this model, with the golden of `manifests.text_bundle`.

    Args:
        location: where.
        content: the model.
        is_open: whether it takes any number of tokens.
        names: of its graphs.
        outputs: what the model makes of the sums that the golden has.
        changes: other fields of the variant.
    """
    document, contents = text_bundle()
    del contents[MODEL]
    contents[FILE] = content
    golden = read_golden(contents[GOLDEN])
    values = {name: outputs(value).astype(value.dtype) for name, value in golden.artifact.items()}
    contents[GOLDEN] = write_golden(replace(golden, reference=values, artifact=values))
    size: Any = {"symbol": "length", "min": 1, "max": LENGTH} if is_open else LENGTH
    graph = {
        "file": FILE,
        "entry": SIGNATURE,
        "inputs": [tensor("input_ids", "int32", 1, size), tensor("attention_mask", "float32", 1, size)],
        "outputs": [tensor(OUTPUT, "float32", 1, WIDTH)],
    }
    document["variants"][0] |= {
        "format": "tflite",
        "recipe": {"format": "tflite", "precision": "fp32", "passes": []},
        "files": [FILE],
        "graphs": dict.fromkeys(names, graph),
        "operators": [{"domain": "tflite", "name": "SUM", "version": 1, "count": 1}],
        "expected_placement": {"processor": "cpu", "backend": "XNNPACK", "delegated": 3, "total": 5},
        "requires": {"engine": "litert", "min_version": "1.0", "backends": [], "platforms": []},
        **changes,
    }
    document["files"] = file_entries(contents)
    return write_directory(location, document, contents)


def int8_end(graph: GraphWriter, value: Value) -> Value:
    """Multiply by the identity in int8, from float and back to it."""
    from ai_edge_litert import schema_py_generated as schema

    weight = QuantizedWeight(
        values=127 * np.eye(WIDTH, dtype=np.int8),
        scale=np.full((WIDTH, 1), 1 / 127, np.float32),
        zero_point=np.zeros((WIDTH, 1), np.int8),
        scheme=INT8,
    )
    rounded = graph.operator("QUANTIZE", [value], (1, WIDTH), kind="INT8")
    weights = graph.quantized_weight("identity", weight)
    same = graph.operator(
        "FULLY_CONNECTED", [rounded, weights, None], (1, WIDTH), "FullyConnectedOptions", version=4, kind="INT8"
    )
    for result in (rounded, same):
        scale = schema.QuantizationParametersT()
        scale.scale, scale.zeroPoint = np.array([MAX / 127], np.float32), np.zeros(1, np.int64)
        graph.subgraph.tensors[result.index].quantization = scale
    return graph.operator("DEQUANTIZE", [same], (1, WIDTH))


def normalized_end(graph: GraphWriter, value: Value) -> Value:
    """Divide by the length, in an operator that LiteRT's GPU accelerator does not take."""
    return graph.operator("L2_NORMALIZATION", [value], (1, WIDTH), "L2NormOptions")


def gelu_end(graph: GraphWriter, value: Value) -> Value:
    """Apply an operator that TFLite Micro does not have."""
    return graph.operator("GELU", [value], (1, WIDTH), "GeluOptions")
