"""ONNX's own cases of single operators: through our session they give what ONNX Runtime gives by itself.

ONNX Runtime does not pass all of them. Those end here with one of our errors, or with the same wrong output. Some have
inputs of types that sessions do not take, and are refused by the type's name.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastserve_runtime
from fastserve_runtime.errors import FastServeError, InputError

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

PASSES, DIFFERS, FAILS = "passes", "differs", "fails"
REFUSAL = re.compile(r"is of the type (?:tensor\()?(string|seq|optional|bfloat16|float[48]|u?int[24]\b)")
"""Text, lists of tensors, what may be left out, and numbers that numpy does not have."""


@dataclass(frozen=True)
class Result:
    """How one data set of a case ended: in which way, with what error or outputs."""

    outcome: str
    error: Exception | None = None
    outputs: Sequence[Any] = ()

    @property
    def refused(self) -> str | None:
        """The kind of type that our session refused, if it did."""
        found = REFUSAL.search(str(self.error)) if isinstance(self.error, InputError) else None
        return found[1] if found else None


@dataclass(frozen=True)
class Pair:
    """What ONNX Runtime made of a data set by itself, and what our session made of it."""

    case: str
    alone: Result
    ours: Result


Results = list[Pair]


def as_array(value: Any) -> Any:
    """A case has scalars and, for some types, messages of ONNX where ONNX Runtime takes arrays."""
    from onnx import TensorProto, numpy_helper

    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic) else value


def judged(case: Any, run: Callable[[list[Any]], Sequence[Any]], data_set: tuple[list[Any], list[Any]]) -> Result:
    """Run one data set, and compare as ONNX's own runner does."""
    from onnx.backend.test.runner import Runner

    inputs, expected = ([as_array(value) for value in values] for values in data_set)
    try:
        outputs = run(inputs)
    except Exception as error:
        return Result(FAILS, error)
    try:
        Runner.assert_similar_outputs(expected, outputs, case.rtol, case.atol)
    except (AssertionError, TypeError) as error:
        return Result(DIFFERS, error, outputs)
    return Result(PASSES, None, outputs)


def run_alone(case: Any, content: bytes) -> list[Result]:
    try:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception as error:
        return [Result(FAILS, error)] * len(case.data_sets)
    names = [i.name for i in session.get_inputs()]
    return [judged(case, lambda v: session.run(None, dict(zip(names, v, strict=False))), d) for d in case.data_sets]


def run_ours(case: Any, file: Path) -> list[Result]:
    try:
        session = fastserve_runtime.open_model(file, engine="onnxruntime")
    except Exception as error:
        return [Result(FAILS, error)] * len(case.data_sets)
    names = [spec.name for spec in session.graphs["main"].inputs]
    with session:
        return [
            judged(case, lambda v: list(session.run(dict(zip(names, v, strict=False))).values()), d)
            for d in case.data_sets
        ]


def sampled_cases() -> list[Any]:
    """The cases of every tenth module of ONNX's, and of those with text and with lists of tensors.

    A module makes its cases when it is imported; all of them take some time.
    """
    import onnx.backend.test.case.node as package

    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    for name in sorted({*names[::10], "clip", "equal", "identity", "sequenceinsert"}):
        importlib.import_module(f"{package.__name__}.{name}")
    return list(package._NodeTestCases)


def all_cases() -> list[Any]:
    from onnx.backend.test.loader import load_model_tests

    return list(load_model_tests(kind="node"))


CHOICES = {"sample": (sampled_cases, 100), "all": (all_cases, 1500)}
"""How cases are found, and how many must pass at least. The sample comes first: what is imported stays."""


@pytest.fixture(scope="module", params=["sample", pytest.param("all", marks=pytest.mark.slow)])
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Every data set of these cases, run both ways."""
    file = tmp_path_factory.mktemp("onnx") / "model.onnx"
    find, minimum = CHOICES[request.param]
    pairs: Results = []
    onnxruntime.set_default_logger_severity(4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cases divide by zero and overflow on purpose
        for case in find():
            content = case.model.SerializeToString()
            file.write_bytes(content)
            both = zip(run_alone(case, content), run_ours(case, file), strict=True)
            pairs += [Pair(case.name, alone, ours) for alone, ours in both]
    onnxruntime.set_default_logger_severity(2)
    assert sum(p.alone.outcome == PASSES for p in pairs) > minimum
    return pairs


def test_as_many_cases_pass_as_with_onnx_runtime_alone(results: Results) -> None:
    alone = [p.case for p in results if p.alone.outcome == PASSES and not p.ours.refused]
    assert [p.case for p in results if p.ours.outcome == PASSES] == alone


def test_what_fails_alone_fails_with_an_error_of_ours(results: Results) -> None:
    failed = [p for p in results if p.alone.outcome == FAILS]
    assert [p.case for p in failed if p.ours.outcome != FAILS] == []
    errors = [(p.case, p.ours.error) for p in results if p.ours.outcome == FAILS]
    assert [(case, repr(error)) for case, error in errors if not isinstance(error, FastServeError)] == []


def test_what_differs_alone_differs_alike(results: Results) -> None:
    """The values may be others, since some are drawn at random."""
    differing = [p for p in results if p.alone.outcome == DIFFERS and not p.ours.refused]
    assert [p.case for p in differing if p.ours.outcome != DIFFERS] == []
    for pair in differing:
        alone, ours = ([np.shape(output) for output in result.outputs] for result in (pair.alone, pair.ours))
        assert alone == ours, pair.case


def test_only_types_that_numpy_does_not_have_are_refused(results: Results) -> None:
    """What ONNX Runtime runs and a session refuses: text, lists of tensors and what may be left out."""
    refused = Counter(p.ours.refused for p in results if p.alone.outcome != FAILS and p.ours.outcome == FAILS)
    assert {"string", "seq"} <= set(refused) <= {"string", "seq", "optional"}
    assert refused.total() < len(results) / 20
