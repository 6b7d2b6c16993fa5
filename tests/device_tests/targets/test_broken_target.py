"""A target of another package that cannot be used is stood for by one that says why."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Any

import pytest

import fastserve_runtime.plugins as plugins
from fastserve_device_tests.needs import Needs
from fastserve_device_tests.suite.availability import missing_of
from fastserve_device_tests.targets import chosen_targets, load_target, target_names
from fastserve_device_tests.targets._broken_target import BrokenTarget, checked_target, not_importable
from fastserve_runtime.errors import EnvironmentFailure


def target(**changes: Any) -> SimpleNamespace:
    fields = {"NAME": "pt2:npu", "PROCESSOR": "npu", "EXECUTED_BY": "simulator", "FORMAT": "pt2", "BACKEND": None}
    return SimpleNamespace(**{**fields, "PRECISIONS": None, "needs": Needs, "engine": lambda _: None, **changes})


def raising() -> Needs:
    raise RuntimeError("no\nlicence.")


def test_a_target_that_is_whole_stays() -> None:
    whole = target()
    assert checked_target("pt2:npu", whole) is whole


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (target(NAME="pt2:gpu"), "The target 'pt2:npu' calls itself 'pt2:gpu'."),
        (target(needs=raising), "The target 'pt2:npu' cannot tell what it needs: RuntimeError: no licence."),
        (target(needs=dict), "The target 'pt2:npu' tells what it needs as dict, not as Needs."),
        (SimpleNamespace(NAME="pt2:npu", needs=Needs, engine=None, PRECISIONS=None, BACKEND=None), None),
    ],
)
def test_one_that_is_not_says_why_in_one_sentence(found: Any, problem: str | None) -> None:
    broken = checked_target("pt2:npu", found)
    assert isinstance(broken, BrokenTarget)
    assert broken.problem == (problem or "The target 'pt2:npu' lacks PROCESSOR, EXECUTED_BY, FORMAT.")
    assert (broken.NAME, broken.FORMAT, broken.needs().missing()) == ("pt2:npu", "pt2", {})
    with pytest.raises(EnvironmentFailure, match="Update the package that brings it") as failure:
        broken.engine(None)  # type: ignore[arg-type]
    assert failure.value.problem == broken.problem
    (missing,) = missing_of(broken)
    assert broken.problem.rstrip(".") in missing


def test_a_module_that_raises_is_named_with_its_error() -> None:
    broken = not_importable("pt2:npu", ImportError("libnpu.so is missing."))
    assert broken.problem == "The target 'pt2:npu' cannot be imported: ImportError: libnpu.so is missing."


def test_it_is_among_all_targets_and_hinders_none(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("pt2-npu", "a_module_that_nobody_made", "fastserve.targets")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [entry] if group == entry.group else [])
    broken = load_target("pt2:npu")
    assert isinstance(broken, BrokenTarget)
    assert "ModuleNotFoundError" in broken.problem
    assert broken in chosen_targets(["all"])
    assert sorted(t.NAME for t in chosen_targets(["all"])) == sorted(target_names())
    assert broken not in [*chosen_targets(None), *chosen_targets(["cpu", "gpu", "npu"])]
