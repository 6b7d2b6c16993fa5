"""Every operator of exported TFLite models, alone in a model of its own, gives in our session what it is defined to.

The session has XNNPACK; LiteRT's reference kernels, which share no code with it, tell an engine's deviation from a
mistake of the expectation. XNNPACK takes numbers too small for a normal float32 for zero, on purpose, and so do the
expectations of what it computes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_tests.operators import truths
from device_tests.operators.deviations import LOST, Deviations, differences
from device_tests.operators.exports import exported_decoder
from device_tests.operators.signatures import tflite_signatures
from device_tests.operators.tensors import Array, Drawn, drawn
from device_tests.operators.tflite_models import CASES, LINEAR_KINDS, Case
from device_tests.operators.write_inventory import INVENTORY, operators_of_exports
from fastserve_runtime.engines import litert

pytest.importorskip("ai_edge_litert")

MANY = 60
"""Seeds of the slow tests."""
MIN_NORMAL = float(np.finfo(np.float32).tiny)
Run = Callable[[Mapping[str, Array]], Array]

ENDS = ("", " and bias", " and bias and ReLU")
NO_NAN = {"nan": LOST}
"""The other number comes out."""
TIES = {"halves": 5.1}
"""A value between two steps may be rounded either way; there are up to 192 in a row."""
XNNPACK: Mapping[str, Deviations] = {
    **dict.fromkeys((f"{n} float32{c}" for n in ("MAXIMUM", "MINIMUM") for c in ("", " and a constant")), NO_NAN),
    "REDUCE_MAX float32": NO_NAN,
    # It gives 0, so that a score that is no number gets no share in a decoder's attention.
    "EXP float32": NO_NAN,
    # It gives NaN for 0 instead of infinity; norms add something to what they take the root of.
    "RSQRT float32": {"zeros": LOST, "negative zeros": LOST, "denormal": LOST},
    **dict.fromkeys((f"FULLY_CONNECTED float32 with {k}{e}" for k in LINEAR_KINDS[1:] for e in ENDS), TIES),
    # LiteRT's own kernel: infinity becomes the least integer.
    "QUANTIZE float32 to int16": {"inf": 65535.0},
}
"""Case → deviations of our session."""

NO_INFINITY = {"inf": LOST, "-inf": LOST}
"""The largest float comes out."""
NO_BLOCKS = {
    "random": 567.0,
    "ones": 3187.0,
    "negative": 1130.0,
    "ten thousands": 1289.0,
    "float16's largest": 1628.0,
    "halves": 993.0,
    "equal": 3187.0,
    "masked": 2714.0,
    "all masked": 3187.0,
    "one large": 594.0,
}
"""Scales of blocks are not known to them."""
_ROUNDED = {"float16's largest": 11.4, "halves": 3.04}
REFERENCE: Mapping[str, Deviations] = {
    **dict.fromkeys((f"{n} float32{c}" for n in ("ADD", "SUB", "MUL") for c in ("", " and a constant")), NO_INFINITY),
    **dict.fromkeys((f"{n} a constant and float32" for n in ("ADD", "SUB", "MUL")), NO_INFINITY),
    **dict.fromkeys((f"DIV float32{c}" for c in ("", " and a constant")), NO_INFINITY),
    "DIV a constant and float32": {"zeros": LOST, "negative zeros": LOST, "denormal": LOST},
    **dict.fromkeys((f"{n} float32{c}" for n in ("MAXIMUM", "MINIMUM") for c in ("", " and a constant")), NO_NAN),
    "REDUCE_MAX float32": {"nan": LOST, "-inf": LOST},
    "LOGISTIC float32": {"halves": 628.0},
    **dict.fromkeys((f"FULLY_CONNECTED float32 with float32{e}" for e in ENDS), NO_INFINITY),
    "FULLY_CONNECTED float32 with int8 by channel": {**_ROUNDED, "denormal": 1896.0},
    "FULLY_CONNECTED float32 with int8 by channel and bias": _ROUNDED,
    "FULLY_CONNECTED float32 with int8 by channel and bias and ReLU": _ROUNDED,
    "FULLY_CONNECTED float32 with int4 blocks of 32": {**NO_BLOCKS, "denormal": 673.0, "tiny": 736.0},
    "FULLY_CONNECTED float32 with int4 blocks of 32 and bias": NO_BLOCKS,
    "FULLY_CONNECTED float32 with int4 blocks of 32 and bias and ReLU": NO_BLOCKS,
    **dict.fromkeys(
        (f"DEQUANTIZE constant {k}, FULLY_CONNECTED{b}" for k in ("float16", "int8 by channel") for b in ENDS),
        NO_INFINITY,
    ),
    # Infinity becomes the least integer.
    "QUANTIZE float32 to int8": {"inf": 255.0},
    "QUANTIZE float32 to int16": {"inf": 65535.0},
}
"""Case → deviations of the reference kernels."""


@cache
def content_of(name: str) -> bytes:
    return next(case for case in CASES if case.name == name).content()


def flushed(values: Array) -> Array:
    """Return values as XNNPACK reads and writes them: nothing between zero and the least normal number."""
    if values.dtype != np.float32:
        return values
    with np.errstate(all="ignore"):
        return np.where(np.abs(values) < MIN_NORMAL, np.copysign(np.float32(0), values), values)


def truth_of(case: Case, inputs: Drawn, *, is_flushed: bool) -> truths.Truth:
    if not is_flushed:
        return case.truth(*inputs.values)
    truth = case.truth(*map(flushed, inputs.values))
    is_float = np.issubdtype(truth.values.dtype, np.floating)
    return truths.Truth(flushed(truth.values.astype(np.float32)), truth.unit) if is_float else truth


def found_in(case: Case, run: Run, names: list[str], *, is_flushed: bool, seeds: int = 1) -> Deviations:
    """Return the largest error of each filling in which it is above the limit."""
    found: dict[str, float] = {}
    for inputs in drawn(case.inputs, case.shapes, seeds=seeds):
        truth = truth_of(case, inputs, is_flushed=is_flushed and inputs.filling == "denormal")
        size = truths.error(run(dict(zip(names, inputs.values, strict=True))), truth)
        if size > case.limit:
            found[inputs.filling] = max(size, found.get(inputs.filling, 0.0))
    return found


def in_session(case: Case, *, seeds: int = 1) -> Deviations:
    with litert.open_session(memoryview(content_of(case.name)), None, threads=1) as session:
        assert session.placement().operators is not None
        (graph,) = session.graphs.values()
        names = [spec.name for spec in graph.inputs]
        is_flushed = case.is_delegated and not case.is_moved
        return found_in(case, lambda given: session.run(given)["result"], names, is_flushed=is_flushed, seeds=seeds)


def by_reference(case: Case) -> Deviations:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=content_of(case.name),
        num_threads=1,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
    )
    runner: Any = interpreter.get_signature_runner()
    names = sorted(runner.get_input_details())
    return found_in(case, lambda given: runner(**given)["result"], names, is_flushed=False)


def known(table: Mapping[str, Deviations], case: Case) -> Deviations:
    return table.get(case.name, {})


each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@each
def test_operator_in_our_session(case: Case) -> None:
    assert differences(in_session(case), known(XNNPACK, case)) == []


@each
def test_operator_by_reference_kernels(case: Case) -> None:
    assert differences(by_reference(case), known(REFERENCE, case)) == []


@each
def test_xnnpack_takes_what_it_takes_in_exported_models(case: Case) -> None:
    with litert.open_session(memoryview(content_of(case.name)), None, threads=1) as session:
        placed = session.placement().operators
    assert placed is not None
    assert (placed["LiteRT kernels"] == 0) == case.is_delegated


@pytest.mark.slow
@each
def test_operator_on_many_tensors(case: Case) -> None:
    """Others than in the short test may be above the limit by a little: only what is lost counts as new."""
    found = in_session(case, seeds=MANY)
    lost = {name for name, size in found.items() if math.isinf(size)}
    assert lost == {name for name, size in known(XNNPACK, case).items() if math.isinf(size)}
    assert {n: s for n, s in found.items() if n not in known(XNNPACK, case) and s > 2 * case.limit} == {}


def covered(folder: Path) -> Iterator[str]:
    for case in CASES:
        file = folder / "model.tflite"
        file.write_bytes(content_of(case.name))
        yield from tflite_signatures(file)


def test_every_operator_of_exported_models_has_a_case(tmp_path: Path) -> None:
    inventory = set(json.loads(INVENTORY.read_text())["tflite"])
    assert len(inventory) > 50
    assert sorted(inventory - set(covered(tmp_path))) == []


@pytest.mark.parametrize(("name", "precision"), [("llama-tied-biased", "int4-embedding-int8"), ("gemma-2", "fp32")])
def test_an_export_has_no_operator_beside_the_inventory(name: str, precision: str, tmp_path: Path) -> None:
    inventory = set(json.loads(INVENTORY.read_text())["tflite"])
    found = tflite_signatures(exported_decoder("tflite", name, precision, tmp_path))
    assert len(found) > 15
    assert sorted(found - inventory) == []


@pytest.mark.slow
def test_no_export_has_an_operator_beside_the_inventory(tmp_path: Path) -> None:
    inventory = set(json.loads(INVENTORY.read_text())["tflite"])
    assert sorted(operators_of_exports("tflite", tmp_path) - inventory) == []


@settings(deadline=None, derandomize=True, database=None)
@given(st.lists(st.floats(width=32), min_size=1), st.data())
def test_an_error_is_counted_where_there_is_one(values: list[float], data: st.DataObject) -> None:
    given_values = np.array(values, np.float32)
    truth = truths.floats(given_values)
    assert truths.error(given_values, truth) == 0
    place = data.draw(st.integers(0, len(values) - 1))
    wrong = given_values.copy()
    with np.errstate(all="ignore"):
        wrong[place] = 0 if np.isnan(wrong[place]) or abs(wrong[place]) > 1 else wrong[place] + 1
    assert truths.error(wrong, truth) > 1e6
    assert truths.error(given_values[:-1], truth) == LOST


def test_known_deviations_neither_disappear_nor_grow() -> None:
    listed = {"nan": LOST, "halves": 4.0}
    assert differences({"nan": LOST, "halves": 4.5}, listed) == []
    assert differences({"halves": 9.0, "random": 2.0}, listed) == [
        "new: random (2)",
        "gone: nan",
        "grown: halves (9, known 4)",
    ]
