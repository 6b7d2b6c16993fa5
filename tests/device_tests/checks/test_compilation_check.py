"""What is said of a variant on a target that nothing here executes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastserve_device_tests.checks.compilation_check import COMPILATION, EXECUTION, judge_compilation
from fastserve_device_tests.compilers.compiled import Compiled
from fastserve_device_tests.suite.suite import run_suite
from fastserve_device_tests.suite.target_process import check_variant
from fastserve_device_tests.targets import load_target
from fastserve_runtime.bundle.manifest import ExpectedPlacement, Variant, parse_variant
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.conformance.verdict import Outcome
from fastserve_runtime.parsing import Fields
from manifests import variant
from tflite_bundles import FILE, int8_end, text_model, tflite_bundle

NAME = "tflite:ethos-u55"
runs_here = pytest.mark.skipif(
    bool(load_target(NAME).needs().missing()), reason="Arm's compiler Vela (make targets) is not there"
)
PORTABLE = parse_variant(Fields(variant("portable"), "the variant"))


def compiled(taken: int, total: int, **report: Any) -> Compiled:
    placed = ExpectedPlacement("npu", "Ethos-U", taken, total)
    report |= {"operators": {"npu": taken, "cpu": {"MEAN": total - taken - 1, "ADD": 1}}}
    return Compiled("tflite", (), {}, (), placed, PORTABLE.requires, report)


def shipped(taken: int) -> Variant:
    return replace(PORTABLE, target=NAME, expected_placement=ExpectedPlacement("npu", "Ethos-U", taken, 10))


def test_a_portable_file_should_be_compiled_as_a_whole() -> None:
    whole = judge_compilation(PORTABLE, NAME, compiled(10, 10, estimates={"cycles": 7}), None)
    assert (whole.check, whole.outcome) == (COMPILATION, Outcome.PASS)
    assert whole.figures == {"expected": 10, "found": 10, "predicted_cycles": 7}
    part = judge_compilation(PORTABLE, NAME, compiled(7, 10), None)
    assert part.outcome is Outcome.FELL_BACK
    assert part.message == "7 of 10 operators are compiled for Ethos-U; left to the CPU: MEAN 2, ADD 1"


@pytest.mark.parametrize(("taken", "outcome"), [(6, Outcome.FELL_BACK), (7, Outcome.PASS), (8, Outcome.PASS)])
def test_as_much_must_be_compiled_as_when_the_bundles_own_variant_was_made(taken: int, outcome: Outcome) -> None:
    verdict = judge_compilation(PORTABLE, NAME, compiled(taken, 10), shipped(7))
    assert verdict.outcome is outcome
    assert verdict.figures == {"expected": 7, "found": taken}


@runs_here
def test_a_portable_variant_is_compiled_and_not_executed(tmp_path: Path) -> None:
    bundle = tflite_bundle(tmp_path / "b.fsb", text_model(int8_end), precision="int8-static")
    compilation, execution = run_suite(bundle, [NAME])
    assert (compilation.check, compilation.outcome) == (COMPILATION, Outcome.FELL_BACK)
    assert "QUANTIZE 1" in compilation.message
    assert compilation.figures["predicted_macs"] > 0
    assert (execution.check, execution.outcome) == (EXECUTION, Outcome.NOT_RUN)
    assert execution.message == "nothing here executes it"


@runs_here
def test_a_file_that_cannot_be_compiled_fails_to_load(tmp_path: Path) -> None:
    bundle = tflite_bundle(tmp_path / "b.fsb", b"rubbish" * 100, precision="int8-static")
    first, second = check_variant(bundle, "first", load_target(NAME))
    assert (first.check, first.outcome) == (COMPILATION, Outcome.LOAD_FAILED)
    assert second.outcome is Outcome.NOT_RUN


def test_what_was_made_for_the_target_is_told_as_it_was_recorded(tmp_path: Path) -> None:
    placement = {"processor": "npu", "backend": "Ethos-U", "delegated": 3, "total": 9}
    bundle = tflite_bundle(tmp_path / "b.fsb", text_model(), target=NAME, expected_placement=placement)
    with open_bundle(bundle) as source:
        identifier = source.manifest.digest
    evidence = {"manifest": identifier, "kind": "compilation", "variant": "first"}
    evidence["report"] = {"estimates": {"sram_bytes": 512}}
    (bundle / "evidence").mkdir()
    (bundle / "evidence" / "compilation-first.json").write_text(json.dumps(evidence))
    (verdict,) = check_variant(bundle, "first", load_target(NAME))
    assert (verdict.check, verdict.outcome) == (EXECUTION, Outcome.NOT_RUN)
    assert verdict.message == (
        "nothing here executes it; 3 of 9 operators were compiled for Ethos-U, predicted sram bytes 512"
    )


def test_a_target_that_lowers_torch_programs_has_nothing_to_do_with_portable_files(tmp_path: Path) -> None:
    class Lowered:
        NAME = "tflite:lowered"
        EXECUTED_BY = "compile-only"
        FORMAT = "tflite"

    bundle = tflite_bundle(tmp_path / "b.fsb", text_model())
    (verdict,) = check_variant(bundle, "first", Lowered())  # type: ignore[arg-type]
    assert verdict.outcome is Outcome.NOT_RUN
    assert verdict.message == "it needs an artifact of its own: export with --target tflite:lowered"


def test_nothing_is_compiled_of_a_precision_that_the_target_does_not_take(tmp_path: Path) -> None:
    bundle = tflite_bundle(tmp_path / "b.fsb", text_model())
    (verdict,) = run_suite(bundle, [NAME])
    assert (verdict.outcome, verdict.message) == (Outcome.NOT_RUN, "it takes int8-static, a16w8, not fp32")
    assert (bundle / FILE).is_file()
