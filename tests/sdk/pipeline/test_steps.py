"""Steps declare the code that they run, and no more."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

import fastserve_converters
import fastserve_runtime
from fastserve.cache.code_digests import CodeDigests, module_of
from fastserve.devices import DEVICES
from fastserve.pipeline.step import Step
from fastserve.pipeline.steps import ModelSteps
from fastserve.pipeline.work.converting import ConverterJob
from fastserve_converters.pass_words import parse_pass
from fastserve_converters.recipe import Recipe

GPTQ = "fastserve_converters.quantization.gptq"
PACKAGES = (fastserve_converters, fastserve_runtime)


@dataclass(frozen=True)
class Model:
    """A subject of which only the kind counts."""

    task: str
    inputs: str


ENCODER, DECODER = Model("feature-extraction", "tokenizer"), Model("text-generation", "prompt-tokenizer")


def code_of(step: Step) -> set[str]:
    """Return the modules that decide a step's key."""
    digests = CodeDigests({p.__name__: Path(p.__file__ or "").parent for p in PACKAGES})
    entries = cast("ConverterJob", step.work).code
    return digests.modules(e if isinstance(e, str) else module_of(e) for e in entries)


@pytest.mark.parametrize("model", [ENCODER, DECODER], ids=lambda model: model.task)
def test_a_reference_rests_on_no_code_that_rounds_or_exports(model: Any) -> None:
    code = code_of(ModelSteps(model).reference)
    assert {"fastserve_converters.models.reference", "fastserve_converters.models.sources"} <= code
    assert not [m for m in code if m.startswith(("fastserve_converters.quantization", "fastserve_converters.formats."))]
    assert "fastserve_converters.worker.model_jobs" not in code


@pytest.mark.parametrize("model", [ENCODER, DECODER], ids=lambda model: model.task)
def test_an_export_rests_on_the_code_that_rounds(model: Any) -> None:
    steps = ModelSteps(model)
    assert GPTQ in code_of(steps.export(Recipe("onnx", "fp32"), None))
    assert GPTQ in code_of(steps.sensitivity("onnx", "mixed"))


def test_a_pass_rests_on_its_own_code_and_reads_data_only_where_it_asks_for_it() -> None:
    steps = ModelSteps(cast("Any", ENCODER))
    trim, drop = (steps.passed(parse_pass(words)) for words in ("trim-vocabulary", "drop-layers:keep=2"))
    assert {"fastserve_converters.trimming.unigram", "fastserve_converters.inputs.tokenizer"} <= code_of(trim)
    code = code_of(drop)
    assert {"fastserve_converters.passes.drop_layers", "fastserve_converters.checkpoints.writing"} <= code
    assert not [m for m in code if m.startswith(("fastserve_converters.trimming", "fastserve_converters.quantization"))]
    assert "data_sha256" in cast("ConverterJob", trim.work).job
    assert "data_sha256" not in cast("ConverterJob", drop.work).job


def test_after_passes_artifacts_run_on_their_own_inputs_and_are_judged_by_the_original() -> None:
    before = ModelSteps(cast("Any", ENCODER))
    after = ModelSteps(cast("Any", ENCODER), original=before.judged_against)
    recipe = Recipe("onnx", "fp32", passes=("drop-layers:keep=2",))
    device = DEVICES.load("local")
    ran = after.measurement(recipe, after.export(recipe, None), "onnx", device, threads=1, is_fresh=False)
    judged = after.quality(recipe, ran)
    assert ran.needs["reference"] is after.reference
    assert judged.needs["reference"] is after.reference
    assert judged.needs["original"] is before.reference
    assert after.program.needs["reference"] is after.reference
