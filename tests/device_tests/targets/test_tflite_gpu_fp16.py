"""LiteRT's GPU accelerator computes in floats of 16 bits where the driver has them, and is judged by their policies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fastserve_device_tests.executors.litert_gpu import HALF
from fastserve_device_tests.suite.target_process import LOAD, check_in_process
from fastserve_device_tests.targets import load_target, tflite_gpu_fp16
from fastserve_device_tests.targets.tflite_gpu_fp16 import HOME, INSTALL, driver
from fastserve_runtime.conformance.verdict import Outcome
from fastserve_runtime.errors import UsageError
from manifests import CHECKS
from tflite_bundles import text_model, tflite_bundle

TARGET = load_target("tflite:gpu-fp16")
LACKING = TARGET.needs().missing()


def describe(path: Path, version: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"ICD": {"api_version": version, "library_path": "./libvulkan_lvp.so"}}))
    return path


@pytest.mark.skipif(bool(LACKING), reason=f"{' and '.join(LACKING)} is missing: {'; '.join(LACKING.values())}")
def test_a_model_runs_there_as_a_whole_in_floats_of_16_bits(tmp_path: Path) -> None:
    location = tflite_bundle(tmp_path / "text.fsb", text_model())
    verdicts = {v.check: v for v in check_in_process(location, "first", TARGET)}
    assert {check: verdicts[check].outcome for check in CHECKS} == dict.fromkeys(CHECKS, Outcome.PASS)
    assert verdicts["placement"].figures == {"found": 5.0, "elsewhere": 0.0}
    # Floats of 32 bits are a thousand times nearer.
    assert verdicts["executor"].figures["relative_error"] > 1e-5


def test_a_driver_is_taken_if_it_is_new_enough_and_the_one_that_was_set_up_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, home = tmp_path / "icd.d", tmp_path / "home"
    monkeypatch.setenv(HOME, str(home))
    assert driver(system) is None
    describe(system / "lvp_icd.x86_64.json", "1.3.230")
    assert driver(system) is None
    new = describe(system / "lvp_icd.json", "1.4.305")
    assert driver(system) == new
    own = describe(home / "lvp_icd.json", "1.4.305")
    assert driver(system) == own


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"ICD": {"api_version": 2}}', '{"ICD": {"api_version": "new"}}'])
def test_a_description_that_is_none_is_no_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.setenv(HOME, str(tmp_path))
    (tmp_path / "lvp_icd.json").write_text(content)
    assert driver(tmp_path / "none") is None


def test_without_the_driver_nothing_is_run_and_the_command_that_fetches_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tflite_gpu_fp16, "driver", lambda: None)
    (verdict,) = check_in_process(tmp_path, "first", TARGET)
    assert (verdict.check, verdict.outcome) == (LOAD, Outcome.NOT_RUN)
    assert "a lavapipe of Mesa 25 or later" in verdict.message
    assert verdict.message.endswith(INSTALL)


def test_only_floats_are_computed_otherwise_than_the_file_says() -> None:
    assert TARGET.PRECISIONS is not None
    assert {name for name, computed in TARGET.PRECISIONS.items() if name != computed} == {"fp32", "fp16"}


def test_a_bare_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="LiteRT on the GPU in fp16 does not open a bare file"):
        HALF.open_session(tmp_path / "model.tflite", None, threads=1)
