"""A model of open length, written for one length: the same operators, the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastserve_runtime.errors import BundleError
from manifests import LENGTH, WIDTH
from tflite_bundles import OUTPUT, SIGNATURE, text_model

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from fastserve_converters.formats.tflite.writing import OPEN
from fastserve_device_tests.compilers.tflite_shapes import with_fixed_shapes

SHAPES = {"input_ids": (1, LENGTH), "attention_mask": (1, LENGTH)}


def graph_of(content: bytes) -> Any:
    return schema.ModelT.InitFromPackedBuf(content, 0).subgraphs[0]


def output_of(content: bytes) -> np.ndarray:
    run = Interpreter(model_content=content, num_threads=1).get_signature_runner(SIGNATURE)
    ids = np.arange(LENGTH, dtype=np.int32)[None]
    mask = (ids < 5).astype(np.float32)
    return run(input_ids=ids, attention_mask=mask)[OUTPUT]


def test_every_tensor_has_one_shape_and_the_numbers_stay(tmp_path: Path) -> None:
    source = tmp_path / "open.tflite"
    source.write_bytes(text_model(length=OPEN))
    assert any(-1 in t.shapeSignature for t in graph_of(source.read_bytes()).tensors if t.shapeSignature is not None)
    fixed = with_fixed_shapes(source, SIGNATURE, SHAPES)
    graph = graph_of(fixed)
    assert all(tensor.shapeSignature is None for tensor in graph.tensors)
    assert [list(graph.tensors[i].shape) for i in graph.inputs] == [[1, LENGTH], [1, LENGTH]]
    assert [LENGTH, WIDTH] in [list(t.shape) for t in graph.tensors if t.shape is not None], "the vectors of all tokens"
    assert np.array_equal(output_of(fixed), output_of(text_model(length=LENGTH)))


@pytest.mark.parametrize("content", [b"", b"TFL3", b"rubbish" * 20])
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "damaged.tflite"
    source.write_bytes(content)
    with pytest.raises(BundleError, match="shapes cannot be fixed"):
        with_fixed_shapes(source, SIGNATURE, SHAPES)


def test_another_signature_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "model.tflite"
    source.write_bytes(text_model())
    with pytest.raises(BundleError, match="shapes cannot be fixed"):
        with_fixed_shapes(source, "another", SHAPES)
