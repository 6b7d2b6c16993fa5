"""Every operator of exported ExecuTorch programs gives in our session what it is defined to.

The operators stand beside each other in three programs, each with inputs and an output of its own, lowered as the
exporter does encoders, those of float16 weights, and decoders. XNNPACK takes numbers too small for a normal float32 for
zero, on purpose.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_tests.operators import truths
from device_tests.operators.deviations import LOST, Deviations, differences
from device_tests.operators.executorch_models import CASES, DECODER, LOWERINGS, Case, cases_of
from device_tests.operators.tensors import Array, draw
from fastserve_runtime.engines import executorch as engine

pytest.importorskip("fastserve_executorch", reason="fastserve-executorch is not installed")
if find_spec("executorch") is None:
    pytest.skip("executorch, which makes the programs, is not installed", allow_module_level=True)

INVENTORY = Path(__file__).with_name("inventory.json")
SCRIPT = Path(__file__).with_name("make_executorch_programs.py")
EXPORTS = ("decoder/gpt-2/int8",)
INTEGERS = ("int8 by channel", "int4 blocks of 32")
MANY = 30
"""Seeds of the slow test."""
SIZES = {DECODER: (1, 2, 7, 33)}
USUAL_SIZES = (2, 5, 33)
MIN_NORMAL = float(np.finfo(np.float32).tiny)
SIZES_ALONE = {"executorch_prim::floordiv.Scalar()", "executorch_prim::mul.Scalar()", "aten::sym_size.int(long)"}
"""They give sizes, of which a wrong one makes wrong shapes in all that follows: tests of whole decoders see it."""

TIES = {"halves": 5.1}
"""A value between two steps may be rounded either way; there are up to 192 in a row."""
KNOWN: Mapping[str, Deviations] = {
    # XNNPACK: the other number comes out.
    "Minimum float32": {"nan": LOST},
    # XNNPACK: NaN for infinity.
    "SquareRoot float32": {"inf": LOST},
    # XNNPACK: NaN for 0 instead of infinity; norms add something to what they take the root of.
    "ReciprocalSquareRoot float32": {"zeros": LOST, "negative zeros": LOST, "denormal": LOST},
    # ExecuTorch's kernel takes the square of the mean from the mean of squares: NaN where a row's values are large and
    # differ by less than a thousandth.
    "layer norm float32": {"all masked": LOST, "float16's largest": LOST},
    **dict.fromkeys(
        (f"linear by token {k}{e}" for k in INTEGERS for e in ("", " with bias", " with bias and ReLU")), TIES
    ),
    # ExecuTorch's kernel: infinity becomes the least integer.
    "round to int16": {"inf": 65534000.0},
}
"""Case → deviations."""
RARELY_LOST = {"layer norm float32": {"masked"}}
"""Rows all of whose values are masked are among many."""


def made(folder: Path, *exports: str) -> Path:
    """The folder, with the programs and `signatures.json`."""
    done = subprocess.run([sys.executable, str(SCRIPT), str(folder), *exports], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("operators"), *EXPORTS)


@pytest.fixture(scope="module")
def signatures(programs: Path) -> dict[str, list[str]]:
    document: dict[str, list[str]] = json.loads((programs / "signatures.json").read_text())
    return document


def flushed(values: Array) -> Array:
    """Return values as XNNPACK reads and writes them: nothing between zero and the least normal number."""
    if values.dtype.kind != "f":
        return values
    with np.errstate(all="ignore"):
        return np.where(np.abs(values) < MIN_NORMAL, np.copysign(values.dtype.type(0), values), values)


def truth_of(case: Case, values: tuple[Array, ...], filling: str) -> truths.Truth:
    if filling != "denormal" or not case.is_flushed:
        return case.truth(*values)
    truth = case.truth(*map(flushed, values))
    return truths.Truth(flushed(truth.values), truth.unit)


def runs(session: Any, lowering: str, seeds: int) -> Iterator[tuple[Case, str, tuple[Array, ...], Array]]:
    """Run all cases of a program on all fillings, each of its own inputs, and yield what each gives."""
    cases = cases_of(lowering)
    (graph,) = session.graphs.values()
    names = [spec.name for spec in graph.inputs]
    fillings = list(dict.fromkeys(name for case in cases for name in case.inputs[0][1]))
    for size in SIZES.get(lowering, USUAL_SIZES):
        for filling in fillings:
            for seed in range(seeds):
                values = [draw(case.inputs, case.shapes(size), filling, (size, seed)) for case in cases]
                flat = [value for given in values for value in given]
                outputs = list(session.run(dict(zip(names, flat, strict=True))).values())
                for case, given, output in zip(cases, values, outputs, strict=True):
                    if filling in case.inputs[0][1]:
                        yield case, filling, given, output


def found_in(programs: Path, seeds: int = 1) -> dict[str, dict[str, float]]:
    """Return, for each case, the largest error of each filling in which it is above the limit."""
    found: dict[str, dict[str, float]] = {case.name: {} for case in CASES}
    for lowering in LOWERINGS:
        with engine.open_session(programs / f"{lowering}.pte", None, threads=1) as session:
            for case, filling, given, output in runs(session, lowering, seeds):
                size = truths.error(output, truth_of(case, given, filling))
                if size > case.limit:
                    found[case.name][filling] = max(size, found[case.name].get(filling, 0.0))
    return found


@pytest.fixture(scope="module")
def found(programs: Path) -> dict[str, dict[str, float]]:
    return found_in(programs)


each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@each
def test_operator_in_our_session(case: Case, found: dict[str, dict[str, float]]) -> None:
    assert differences(found[case.name], KNOWN.get(case.name, {})) == []


@each
def test_operator_is_lowered_to_what_it_is_a_case_of(case: Case, signatures: dict[str, list[str]]) -> None:
    assert case.covers
    assert sorted(set(case.covers) - set(signatures[case.lowering])) == []


def test_every_operator_of_exported_programs_has_a_case(signatures: dict[str, list[str]]) -> None:
    inventory = set(json.loads(INVENTORY.read_text())["executorch"])
    assert len(inventory) > 50
    covered = {signature for lowering in LOWERINGS for signature in signatures[lowering]}
    assert sorted(inventory - covered - SIZES_ALONE) == []


@pytest.mark.parametrize("export", EXPORTS)
def test_an_export_has_no_operator_beside_the_inventory(export: str, signatures: dict[str, list[str]]) -> None:
    inventory = set(json.loads(INVENTORY.read_text())["executorch"])
    assert len(signatures[export]) > 10
    assert sorted(set(signatures[export]) - inventory) == []


@pytest.mark.slow
def test_no_export_has_an_operator_beside_the_inventory(tmp_path: Path) -> None:
    from device_tests.operators.exports import all_exports

    inventory = set(json.loads(INVENTORY.read_text())["executorch"])
    exports = ["/".join(export) for export in all_exports("executorch")]
    document = json.loads((made(tmp_path, *exports) / "signatures.json").read_text())
    assert {name for name in exports if set(document[name]) - inventory} == set()


@pytest.mark.slow
def test_operators_on_many_tensors(programs: Path) -> None:
    """Others than in the short test may be above the limit by a little: only what is lost counts as new."""
    problems = []
    limits = {case.name: case.limit for case in CASES}
    for name, sizes in found_in(programs, MANY).items():
        known = KNOWN.get(name, {})
        lost = {filling for filling, size in sizes.items() if math.isinf(size)} - RARELY_LOST.get(name, set())
        if lost != {filling for filling, size in known.items() if math.isinf(size)}:
            problems.append(f"{name}: lost {sorted(lost)}")
        large = [f for f, size in sizes.items() if f not in known and size > 2 * limits[name]]
        problems += [f"{name}: {filling} {sizes[filling]:.4g}" for filling in large]
    assert problems == []
