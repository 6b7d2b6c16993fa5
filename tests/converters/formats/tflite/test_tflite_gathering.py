"""Columns beside an open dimension are gathered, and compute what slices did."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from fastserve_converters.formats.tflite.file import operators, read_model, write_model
from fastserve_converters.formats.tflite.gathering import gather_parts
from fastserve_converters.formats.tflite.writing import OPEN, ModelWriter

X = np.arange(2 * 5 * 3, dtype=np.float32).reshape(2, 5, 3)


def sliced(path: Path, begin: Sequence[int], size: Sequence[int], shape: Sequence[int]) -> Path:
    """Write a model of one SLICE of a tensor [2, open, 3]."""
    writer = ModelWriter()
    graph = writer.graph("main")
    x = graph.input("x", [2, OPEN, 3])
    constants = [graph.constant(name, np.array(v, np.int32)) for name, v in (("begin", begin), ("size", size))]
    graph.output("y", graph.operator("SLICE", [x, *constants], shape, "SliceOptions"))
    writer.write(path)
    return path


def gathered(path: Path) -> list[str]:
    model = read_model(path)
    gather_parts(model)
    write_model(model, path)
    return [name for _, _, name in operators(model)]


def run(path: Path) -> np.ndarray:
    return Interpreter(model_path=str(path)).get_signature_runner("main")(x=X)["y"]


@pytest.mark.parametrize(
    ("begin", "size", "shape", "expected"),
    [
        ([0, 0, 1], [2, -1, 1], [2, OPEN, 1], X[:, :, 1:2]),
        ([0, 0, 1], [-1, -1, -1], [2, OPEN, 2], X[:, :, 1:]),
        ([1, 0, 0], [1, -1, 3], [1, OPEN, 3], X[1:]),
    ],
)
def test_a_part_of_a_known_dimension_is_gathered(tmp_path: Path, begin, size, shape, expected) -> None:
    path = sliced(tmp_path / "model.tflite", begin, size, shape)
    before = run(path)
    assert gathered(path) == ["GATHER"]
    assert run(path).tolist() == before.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("begin", "size", "shape"),
    [([0, 0, 0], [2, 1, 3], [2, 1, 3]), ([0, 1, 0], [2, -1, 3], [2, OPEN, 3]), ([1, 0, 1], [1, -1, 1], [1, OPEN, 1])],
)
def test_other_slices_stay(tmp_path: Path, begin, size, shape) -> None:
    assert gathered(sliced(tmp_path / "model.tflite", begin, size, shape)) == ["SLICE"]
