"""Buffers that a session lends: the engine's own where it has such, else arrays like any others."""

from __future__ import annotations

import numpy as np
import pytest

from fastserve_runtime.engines import litert
from fastserve_runtime.errors import InputError, UsageError


@pytest.fixture
def doubling():
    """A graph that writes rows of 2 twice behind each other, [n, 2] to [n, 4]."""
    from fastserve_converters.formats.tflite.operators import Operators
    from fastserve_converters.formats.tflite.writing import OPEN, ModelWriter

    writer = ModelWriter()
    graph = writer.graph("twice")
    x = graph.input("x", [OPEN, 2])
    graph.output("y", Operators(graph).concatenate([x, x], 1))
    with litert.open_session(memoryview(writer.content()), None, threads=1) as session:
        yield session


def rows(count: int) -> np.ndarray:
    return np.arange(2 * count, dtype=np.float32).reshape(count, 2)


def nothing() -> None:
    """Nothing is to be saved."""


def test_the_engine_reads_and_writes_them_in_place(doubling) -> None:
    for count in (3, 1, 200):
        lent = doubling.borrow({"x": (count, 2)}, nothing)
        for _ in range(2):
            lent.inputs["x"][:] = rows(count)
            assert lent.run() is lent.outputs
            np.testing.assert_array_equal(lent.outputs["y"], np.hstack([rows(count)] * 2))


def test_they_are_given_back_before_another_use(doubling) -> None:
    saved = []
    lent = doubling.borrow({"x": (3, 2)}, lambda: saved.append(lent.inputs["x"].copy()))
    lent.inputs["x"][:] = rows(3)
    np.testing.assert_array_equal(doubling.run({"x": rows(500)})["y"], np.hstack([rows(500)] * 2))
    np.testing.assert_array_equal(saved, [rows(3)])
    with pytest.raises(UsageError, match=r"used for something else since. Borrow buffers again"):
        lent.run()
    other = doubling.borrow({"x": (2, 2)}, nothing)
    other.inputs["x"][:] = rows(2)
    doubling.borrow({"x": (900, 2)}, nothing)
    assert len(saved) == 1
    with pytest.raises(UsageError, match="used for something else"):
        other.run()


def test_they_cannot_be_exchanged(doubling) -> None:
    lent = doubling.borrow({"x": (3, 2)}, nothing)
    with pytest.raises(UsageError, match="cannot be replaced"):
        lent.replace({"x": rows(3)})


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"x": (3, 3)}, r"given the shape \[3, 3\]; the model takes \[x_0"),
        ({"x": (3,)}, r"given the shape \[3\]"),
        ({"x": (3, 2), "z": (1,)}, "'z' was given; the graph has x"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_and_nobody_loses_theirs(doubling, shapes, words) -> None:
    lent = doubling.borrow({"x": (1, 2)}, nothing)
    with pytest.raises(InputError, match=words):
        doubling.borrow(shapes, nothing)
    lent.inputs["x"][:] = 5
    assert lent.run()["y"].tolist() == [[5, 5, 5, 5]]


def test_a_closed_session_lends_nothing_and_its_arrays_stay_sound(doubling) -> None:
    lent = doubling.borrow({"x": (3, 2)}, nothing)
    doubling.close()
    lent.inputs["x"][:] = 1
    for use in (lent.run, lambda: doubling.borrow({"x": (3, 2)}, nothing)):
        with pytest.raises(UsageError, match="session is closed"):
            use()
