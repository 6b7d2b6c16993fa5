"""Which targets an export makes artifacts for, and in which precisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from fastserve.search.target_plans import TargetPlan, check_named, target_plans, with_portable_bases
from fastserve_converters.formats import chosen_precisions
from fastserve_converters.formats.onnx import PRECISIONS as ONNX
from fastserve_converters.formats.tflite import PRECISIONS as TFLITE
from fastserve_device_tests.needs import Needs
from fastserve_device_tests.targets import load_target
from fastserve_runtime.errors import EnvironmentFailure, UsageError

AVAILABLE = {"onnx": ONNX, "tflite": TFLITE}
MISSING = Needs(modules={"no_such_module": "pip install it"})


@dataclass
class Compiling:
    """A target that compiles ONNX files."""

    NAME: str = "onnx:chip"
    FORMAT: str = "onnx"
    PRECISIONS: Mapping[str, str] | None = field(default_factory=lambda: {"fp32": "fp16", "a16w8": "a16w8"})
    own_needs: Needs = field(default_factory=Needs)

    def needs(self) -> Needs:
        return self.own_needs

    def compile_model(self) -> None:
        """Mark it as one that compiles."""


def plan_of(target: Any = None, *, is_named: bool = True) -> TargetPlan:
    return TargetPlan(target or Compiling(), "onnx", is_named)


def wanted_of(plans: list[TargetPlan], precisions: tuple[str, ...] | None) -> dict[str, tuple[str, ...]]:
    return chosen_precisions({**AVAILABLE, **{p.name: p.precisions(AVAILABLE) for p in plans}}, precisions)


@pytest.fixture
def chips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the targets be two chips, of which one lacks a package."""
    known = {"onnx:chip": Compiling(), "onnx:far": Compiling("onnx:far", own_needs=MISSING)}

    def chosen(words: tuple[str, ...]) -> list[Any]:
        return [t for n, t in known.items() if n in words or "npu" in words]

    monkeypatch.setattr("fastserve.search.target_plans.chosen_targets", chosen)


def test_a_compiler_takes_those_of_its_precisions_that_the_format_has() -> None:
    assert list(plan_of().precisions(AVAILABLE)) == ["fp32", "a16w8"]
    assert list(plan_of(Compiling(PRECISIONS=None)).precisions(AVAILABLE)) == list(ONNX)


def test_portable_bases_are_made_beside_what_was_wanted() -> None:
    plans = [plan_of()]
    wanted = wanted_of(plans, None)
    assert wanted["onnx:chip"] == ("fp32",), "of the default precisions it takes one"
    assert with_portable_bases(plans, wanted, AVAILABLE) == {k: v for k, v in wanted.items() if k != "onnx:chip"}
    only = [plan_of(Compiling(PRECISIONS={"a16w8": "a16w8"}))]
    made = with_portable_bases(only, wanted_of(only, None), AVAILABLE)
    assert "a16w8" in made["onnx"], "it takes none of the default ones, so all that it takes are made"
    assert "a16w8" not in made["tflite"]
    assert "fp32" in made["onnx"]


def test_a_target_that_takes_none_of_the_named_precisions_is_refused_if_it_was_named_itself() -> None:
    plans = [plan_of()]
    wanted = wanted_of(plans, ("int8-dynamic",))
    with pytest.raises(UsageError, match="onnx:chip takes none of the precisions") as failure:
        with_portable_bases(plans, wanted, AVAILABLE)
    assert failure.value.remedy == "It takes: fp32, a16w8."
    made = with_portable_bases([plan_of(is_named=False)], wanted, AVAILABLE)
    assert made == {"onnx": ("int8-dynamic",), "tflite": ("int8-dynamic",)}


@pytest.mark.usefixtures("chips")
def test_what_a_named_target_lacks_is_an_error_and_of_a_class_a_note() -> None:
    (plan,), notes = target_plans(["onnx:chip"], ["onnx"])
    assert (plan.name, plan.base, plan.is_named, notes) == ("onnx:chip", "onnx", True, [])
    with pytest.raises(EnvironmentFailure, match="onnx:far lacks the package no_such_module"):
        target_plans(["onnx:far"], ["onnx"])
    (plan,), (note,) = target_plans(["npu"], ["onnx"])
    assert (plan.name, plan.is_named) == ("onnx:chip", False)
    assert note.startswith("Nothing was made for onnx:far: The target onnx:far lacks the package no_such_module.")


@pytest.mark.usefixtures("chips")
def test_the_format_that_a_compiler_takes_must_be_exported() -> None:
    with pytest.raises(UsageError, match="onnx:chip is made from onnx, which is not to be exported") as failure:
        target_plans(["onnx:chip"], ["tflite"])
    assert failure.value.remedy == "Add it: --format tflite,onnx."
    plans, notes = target_plans(["npu"], ["tflite"])
    assert plans == []
    assert len(notes) == 2


def test_a_target_that_takes_portable_files_needs_nothing_and_says_so_if_it_was_named() -> None:
    assert target_plans(["onnx:cpu"], ["onnx"]) == (
        [],
        ["onnx:cpu needs no artifact of its own: it takes the portable onnx ones."],
    )
    assert target_plans(["cpu"], ["onnx"]) == ([], [])


def test_an_unknown_target_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'onnx:qnn-htp'"):
        target_plans(["onnx:qnn-http"], ["onnx"])


def test_targets_are_for_encoders_and_an_empty_list_is_no_choice() -> None:
    check_named(None, generates=True)
    check_named(["onnx:qnn-htp"], generates=False)
    with pytest.raises(UsageError, match="--target onnx:qnn-htp was given for a model that generates text"):
        check_named(["onnx:qnn-htp"], generates=True)
    with pytest.raises(UsageError, match="No target was named"):
        check_named([], generates=False)


def test_a_lowering_has_precisions_of_its_own() -> None:
    plan = TargetPlan(load_target("onnx:cpu"), None, is_named=True)
    with pytest.raises(UsageError, match="There is no lowering 'onnx-cpu'"):
        plan.precisions(AVAILABLE)
