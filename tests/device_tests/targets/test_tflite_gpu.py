"""LiteRT's GPU accelerator takes whole models, what it leaves to the CPU is counted, and wrong numbers are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastserve_converters.formats.tflite.writing import OPEN
from fastserve_device_tests.compilers.litert_compiling import CPU, GPU, counted_operators
from fastserve_device_tests.executors.litert_gpu import FULL
from fastserve_device_tests.needs import Needs
from fastserve_device_tests.suite.target_process import LOAD, check_in_process
from fastserve_device_tests.targets import load_target, tflite_gpu
from fastserve_runtime.conformance.verdict import Outcome, Verdict
from fastserve_runtime.errors import UsageError
from manifests import CHECKS, word_vectors
from tflite_bundles import normalized_end, text_model, tflite_bundle

TARGET = load_target("tflite:gpu")

runs_here = pytest.mark.skipif(
    bool(TARGET.needs().missing()), reason="LiteRT or SwiftShader (make targets) is not installed"
)


def normalized(embeddings: np.ndarray) -> np.ndarray:
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


def by_check(verdicts: list[Verdict]) -> dict[str, Verdict]:
    return {verdict.check: verdict for verdict in verdicts}


@runs_here
@pytest.mark.parametrize("is_open", [False, True], ids=["fixed length", "open length"])
def test_a_model_runs_there_as_a_whole_and_right(tmp_path: Path, is_open: bool) -> None:
    content = text_model(length=OPEN) if is_open else text_model()
    found = by_check(check_in_process(tflite_bundle(tmp_path / "b.fsb", content, is_open=is_open), "first", TARGET))
    assert {check: (v.outcome, v.message) for check, v in found.items()} == dict.fromkeys(CHECKS, (Outcome.PASS, ""))
    assert found["placement"].figures == {"found": 5, "elsewhere": 0}


@runs_here
@pytest.mark.parametrize("is_open", [False, True], ids=["fixed length", "open length"])
def test_an_operator_that_the_gpu_does_not_take_is_counted_and_named(tmp_path: Path, is_open: bool) -> None:
    content = text_model(normalized_end, length=OPEN) if is_open else text_model(normalized_end)
    bundle = tflite_bundle(tmp_path / "b.fsb", content, is_open=is_open, outputs=normalized)
    found = by_check(check_in_process(bundle, "first", TARGET))
    assert found["placement"].outcome is Outcome.FELL_BACK
    assert found["placement"].message == (
        "5 of 6 operators run in LiteRT's GPU accelerator, 1 in LiteRT's CPU (for L2_NORMALIZATION)"
    )
    assert found["placement"].figures == {"found": 5, "elsewhere": 1}
    assert {v.outcome for check, v in found.items() if check != "placement"} == {Outcome.PASS}


@runs_here
def test_other_weights_are_a_mismatch(tmp_path: Path) -> None:
    vectors = word_vectors()
    vectors[4] *= -1
    bundle = tflite_bundle(tmp_path / "b.fsb", text_model(vectors=vectors))
    found = by_check(check_in_process(bundle, "first", TARGET))
    assert {found[check].outcome for check in ("quality", "executor")} == {Outcome.OUTPUT_MISMATCH}
    assert found["determinism"].outcome is found["placement"].outcome is Outcome.PASS


@runs_here
def test_without_a_device_the_model_is_not_run_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tflite_bundle(tmp_path / "b.fsb", text_model())
    monkeypatch.setattr(TARGET, "needs", lambda: Needs(environment={"VK_ICD_FILENAMES": str(tmp_path / "none.json")}))
    (verdict,) = check_in_process(bundle, "first", TARGET)
    assert (verdict.check, verdict.outcome) == (LOAD, Outcome.NOT_RUN)
    assert verdict.message.startswith("LiteRT on the GPU finds no GPU: ")
    assert verdict.message.endswith("Look whether a Vulkan driver is installed.")


@runs_here
def test_a_damaged_model_is_a_failed_load(tmp_path: Path) -> None:
    (verdict,) = check_in_process(tflite_bundle(tmp_path / "b.fsb", b"no model"), "first", TARGET)
    assert (verdict.check, verdict.outcome) == (LOAD, Outcome.LOAD_FAILED)
    assert "cannot load the model" in verdict.message


def test_a_model_of_several_graphs_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tflite_bundle(tmp_path / "b.fsb", b"never read", names=["one", "two"])
    monkeypatch.setattr(TARGET, "needs", Needs)
    (verdict,) = check_in_process(bundle, "first", TARGET)
    assert verdict.outcome is Outcome.NOT_RUN


def test_a_bare_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not open a bare file"):
        FULL.open_session(tmp_path / "model.tflite", None, threads=1)


def test_the_last_words_about_operators_hold_and_those_not_taken_are_named() -> None:
    words = [
        "WARNING: nothing to do with it",
        "ERROR: Following operations are not supported by GPU delegate:",
        "ROUND: told before the shapes were set",
        "No operations will run on the GPU, and all 7 operations will run on the CPU.",
        "ERROR: Following operations are not supported by GPU delegate:",
        "CUMSUM: Input/output must be float type",
        "CUMSUM: another reason",
        "BITCAST: no reason",
        "5 operations will run on the GPU, and the remaining 2 operations will run on the CPU.",
        "INFO: nothing to do with it",
    ]
    assert counted_operators(words) == {GPU: 5, f"{CPU} (for BITCAST, CUMSUM)": 2}
    assert counted_operators(words[:4]) == {GPU: 0, f"{CPU} (for ROUND)": 7}
    assert counted_operators(words[:3]) is None


def test_without_the_driver_nothing_is_run_and_the_command_that_installs_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tflite_gpu, "first_that_exists", lambda *places: None)
    (verdict,) = check_in_process(tmp_path, "first", TARGET)
    assert (verdict.check, verdict.outcome) == (LOAD, Outcome.NOT_RUN)
    assert verdict.message.endswith("SwiftShader's Vulkan driver is missing: apt-get install chromium")
