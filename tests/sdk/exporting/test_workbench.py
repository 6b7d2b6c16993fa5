"""From recipes to candidates: what is made once, what fails, and what is told of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from candidates import build_measurement
from fastserve.cache.records import Entry
from fastserve.exporting.export import search
from fastserve.exporting.workbench import Workbench
from fastserve.makers.for_target import CompilingMaker
from fastserve.makers.portable import PortableMaker
from fastserve.pipeline.step import Step
from fastserve.pipeline.steps import ModelSteps
from fastserve.search.budget import Budget
from fastserve.search.candidate import Candidate
from fastserve.search.planners import CannotPropose
from fastserve_converters.artifact import NOT_FINITE_DB
from fastserve_converters.precisions import FP32, INT8, Precision
from fastserve_converters.recipe import Recipe
from fastserve_runtime.errors import DiskFull, EnvironmentFailure, FastServeError, UsageError
from fastserve_runtime.measurement.measurement import measurement_document

PRECISIONS = {
    "fp32": FP32,
    "fp16": replace(FP32, base="fp32", floats="float16"),
    "int8-dynamic": Precision(INT8, INT8, "dynamic-int8", base="fp32"),
}
QUALITY = {"name": "agreement", "value": 0.9, "low": 0.8, "high": 1.0, "samples": 3, "beside": {}}


@dataclass
class Told:
    """A runner that gives results by a step's title, and writes down what it ran and counted."""

    folder: Path
    failing: dict[str, FastServeError] = field(default_factory=dict)
    sqnr_db: float | None = 30.0
    ran: list[str] = field(default_factory=list)
    planned: list[str] = field(default_factory=list)

    def plan(self, steps: Iterable[Step]) -> None:
        self.planned += [step.title for step in steps]

    def run(self, step: Step) -> Entry:
        self.ran.append(step.title)
        if step.title in self.failing:
            raise self.failing[step.title]
        (self.folder / "tokenizer.json").write_bytes(bytes(1000))
        (self.folder / "model").write_bytes(bytes(500))
        results: dict[str, Any] = {
            "artifact": {"files": ["model"], "recipe": {"width": "fp32"}},
            "compilation": {"files": ["model"], "format": "chip", "report": {"bytes": 7}},
            "measurement": measurement_document(build_measurement()),
            "quality": QUALITY,
            "fake_quant_reference": {"sqnr_db": self.sqnr_db, "executor": "PyTorch"},
        }
        return Entry(
            step.title, self.folder, results.get(step.kind, {}), {"model": "0" * 64, "tokenizer.json": "1" * 64}, 1.5
        )


@pytest.fixture
def runner(tmp_path: Path) -> Told:
    return Told(tmp_path)


@pytest.fixture
def bench(runner: Told, monkeypatch: pytest.MonkeyPatch) -> Workbench:
    monkeypatch.setattr(ModelSteps, "precisions", lambda *_: PRECISIONS)
    monkeypatch.setattr("fastserve.makers.for_target.compiler_versions", lambda _: {"chip-compiler": "3"})
    subject: Any = SimpleNamespace(task="feature-extraction", inputs="tokenizer")
    target: Any = SimpleNamespace(NAME="onnx:chip", FORMAT="onnx", PRECISIONS=None, compile_model=None)
    device: Any = None
    made: Any = runner
    makers = {"onnx": PortableMaker("onnx", PRECISIONS), "onnx:chip": CompilingMaker(target, PRECISIONS)}
    return Workbench(made, ModelSteps(subject), makers, device, threads=1, remeasure=False)


def recipe(precision: str, maker: str = "onnx") -> Recipe:
    return Recipe(maker, precision)


def test_a_float_precision_is_exported_measured_and_judged(bench: Workbench, runner: Told) -> None:
    candidate = bench.candidate(recipe("fp32"))
    assert (candidate.id, candidate.failure, candidate.size) == ("onnx-fp32", None, 1500)
    assert candidate.measurement == build_measurement()
    assert candidate.quality is not None
    assert candidate.quality.value == 0.9
    done = [title for title in runner.ran if title != "Reference outputs"]
    assert done == ["Export onnx fp32", "Measure onnx fp32", "Quality of onnx fp32"]
    assert bench.candidate(recipe("fp32")) is candidate


def test_steps_are_counted_as_they_are_done(bench: Workbench, runner: Told) -> None:
    bench.plan([recipe("int8-dynamic")])
    bench.candidate(recipe("int8-dynamic"))
    assert runner.planned == [
        "Export onnx int8-dynamic",
        "Measure onnx int8-dynamic",
        "Quality of onnx int8-dynamic",
        "Second check of onnx int8-dynamic",
    ]
    assert [t for t in runner.ran if t in runner.planned] == runner.planned


def test_a_base_that_fails_takes_along_what_is_made_from_it(bench: Workbench, runner: Told) -> None:
    runner.failing = {"Export onnx fp32": EnvironmentFailure("It crashed.", "Use another.")}
    assert bench.candidate(recipe("fp16")).failure == "it is made from fp32, which failed"
    assert bench.candidate(recipe("fp32")).failure == "export failed: It crashed. Use another."
    assert bench.candidate(recipe("int8-dynamic")).failure == "it is made from fp32, which failed"
    assert runner.ran == ["Export onnx fp32"]


def test_a_measurement_that_fails_leaves_the_artifact(bench: Workbench, runner: Told) -> None:
    runner.failing = {"Measure onnx fp32": UsageError("It does not run.")}
    candidate = bench.candidate(recipe("fp32"))
    assert candidate.failure == "measuring failed: It does not run."
    assert candidate.folder is not None
    assert bench.candidate(recipe("fp16")).failure is None, "what it is made from was made"


@pytest.mark.parametrize("title", ["Export onnx fp32", "Measure onnx fp32"])
def test_a_full_disk_ends_everything(bench: Workbench, runner: Told, title: str) -> None:
    runner.failing = {title: DiskFull()}
    with pytest.raises(DiskFull):
        bench.candidate(recipe("fp32"))


@pytest.mark.parametrize(("ratio", "fails"), [(None, False), (10.0, False), (9.9, True)])
def test_an_artifact_that_does_not_compute_what_its_weights_say_is_not_used(
    bench: Workbench, runner: Told, ratio: float | None, fails: bool
) -> None:
    runner.sqnr_db = ratio
    failure = bench.candidate(recipe("int8-dynamic")).failure
    assert (failure is not None) == fails
    if failure is not None:
        assert failure.startswith("it does not compute what its weights say: SQNR 9.9 dB against PyTorch")


def test_an_artifact_whose_outputs_are_not_finite_is_told_from_one_that_is_equal(
    bench: Workbench, runner: Told
) -> None:
    runner.sqnr_db = NOT_FINITE_DB
    failure = bench.candidate(recipe("int8-dynamic")).failure
    assert failure == "it cannot be compared with PyTorch: values of one of them are not finite"


def test_a_targets_artifact_is_made_of_the_portable_one_and_judged_as_it(bench: Workbench, runner: Told) -> None:
    own, portable = bench.candidate(recipe("fp32", "onnx:chip")), bench.candidate(recipe("fp32"))
    assert (own.id, own.format, own.target) == ("onnx-chip-fp32", "chip", "onnx:chip")
    assert (own.quality, own.outputs, own.measurement) == (portable.quality, portable.outputs, None)
    assert own.artifact == {"files": ["model"], "recipe": {"width": "fp32", "compiler": {"chip-compiler": "3"}}}
    assert own.compilation == {
        "compiler": {"chip-compiler": "3"},
        "seconds": 1.5,
        "outputs_of": "onnx-fp32 on onnxruntime",
        "report": {"bytes": 7},
    }
    assert runner.ran.count("Measure onnx fp32") == 1


def test_what_cannot_be_made_for_a_target_is_told_in_its_candidate(bench: Workbench, runner: Told) -> None:
    runner.failing = {
        "Compile fp32 for onnx:chip": EnvironmentFailure("The compiler refuses the model.", "Use another."),
        "Measure onnx fp16": EnvironmentFailure("It crashed."),
    }
    first = bench.candidate(recipe("fp32", "onnx:chip"))
    assert (first.id, first.target, first.fits) == ("onnx-chip-fp32", "onnx:chip", False)
    assert first.failure == "compiling failed: The compiler refuses the model. Use another."
    second = bench.candidate(recipe("fp16", "onnx:chip"))
    assert second.failure == "it is made from onnx-fp16, which failed"


def test_recipes_of_the_same_words_are_told_apart(bench: Workbench) -> None:
    one, other = (Recipe("onnx", "fp32", assignment=a) for a in ((("a", None),), (("b", None),)))
    first, second = bench.candidate(one), bench.candidate(other)
    assert first.id == "onnx-fp32"
    assert second.id == f"onnx-fp32-{other.digest[:8]}"


@dataclass
class OneByOne:
    """A planner that proposes the next recipe when it has seen the one before."""

    recipes: list[Recipe]
    refuses: tuple[Recipe, ...] = ()

    def propose(self, seen: Sequence[Candidate], budget: Budget) -> list[Recipe]:
        known = {candidate.recipe for candidate in seen}
        for each in self.recipes:
            if each not in known:
                if each in self.refuses:
                    raise CannotPropose(each, UsageError("The limits are too tight."))
                return [each, each]
        return []


def test_planners_are_asked_until_they_propose_no_more(bench: Workbench) -> None:
    first = OneByOne([recipe("fp32"), recipe("fp16")], refuses=(recipe("fp16"),))
    second = OneByOne([recipe("fp16"), recipe("int8-dynamic")])
    found = search([first, second], bench, Budget())
    assert [c.id for c in found] == ["onnx-fp32", "onnx-fp16", "onnx-int8-dynamic"]
    assert [c.failure for c in found] == [None, "export failed: The limits are too tight.", None]
    assert found[0].on_front


def test_a_planner_that_repeats_itself_does_not_go_on_for_ever(bench: Workbench) -> None:
    class Stubborn:
        def propose(self, seen: Sequence[Candidate], budget: Budget) -> list[Recipe]:
            if seen:
                raise CannotPropose(recipe("fp32"), UsageError("No."))
            return [recipe("fp32")]

    assert [c.id for c in search([Stubborn()], bench, Budget())] == ["onnx-fp32"]
