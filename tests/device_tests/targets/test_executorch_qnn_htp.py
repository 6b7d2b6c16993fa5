"""Qualcomm's simulator runs what ExecuTorch compiled for it, with the one version of its libraries that fits."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

import lowered_bundles
from fastserve_converters.formats import missing_modules
from fastserve_converters.lowerings import load_lowering
from fastserve_converters.lowerings.executorch_qnn_htp import BACKEND, lower
from fastserve_device_tests.executors import executorch_qnn
from fastserve_device_tests.needs import Needs
from fastserve_device_tests.suite.target_process import LOAD, check_in_process
from fastserve_device_tests.targets import load_target
from fastserve_runtime.conformance.verdict import Outcome, Verdict
from fastserve_runtime.errors import EnvironmentFailure
from lowered_bundles import altered
from manifests import CHECKS

TARGET = load_target("executorch:qnn-htp")
PRECISIONS = ("fp16", "a16w8")

runs_here = pytest.mark.skipif(
    bool(TARGET.needs().missing() or missing_modules(load_lowering(TARGET.NAME))),
    reason="ExecuTorch or Qualcomm's libraries (make targets) are not installed",
)


def by_check(verdicts: list[Verdict]) -> dict[str, Verdict]:
    return {verdict.check: verdict for verdict in verdicts}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle of the encoder for each precision, made in a process that has the environment."""
    folder = tmp_path_factory.mktemp("qnn")
    command = [sys.executable, lowered_bundles.__file__, "encoder", TARGET.NAME, ",".join(PRECISIONS), str(folder)]
    environment = {**os.environ, **TARGET.needs().environment}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return folder


@runs_here
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_model_runs_there_as_a_whole_and_right(bundles: Path, precision: str) -> None:
    found = by_check(check_in_process(bundles / f"{precision}.fsb", "own", TARGET))
    assert {check: (v.outcome, v.message) for check, v in found.items()} == dict.fromkeys(CHECKS, (Outcome.PASS, ""))
    assert found["placement"].figures == {"expected": 1, "found": 1}
    assert 50 < found["executor"].figures["sqnr_db"] < 110, "these are not the numbers of PyTorch"


@runs_here
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content[:700], "damaged"),
        (lambda content: content.replace(BACKEND.encode(), b"OtherChips"), "made for OtherChips"),
        pytest.param(
            lambda content: content[:-60_000] + bytes(60_000), "cannot load the program", marks=pytest.mark.slow
        ),
    ],
    ids=["cut", "another backend", "damaged context"],
)
def test_a_broken_program_is_a_verdict(
    bundles: Path, tmp_path: Path, change: Callable[[bytes], bytes], words: str
) -> None:
    spoilt = altered(bundles / "fp16.fsb", tmp_path / "b.fsb", change)
    verdict = check_in_process(spoilt, "own", TARGET)[0]
    assert verdict.outcome in {Outcome.LOAD_FAILED, Outcome.RUN_FAILED}
    assert words in verdict.message


@runs_here
def test_the_libraries_are_of_the_version_that_executorch_works_with() -> None:
    assert version(executorch_qnn.PACKAGE) == executorch_qnn.VERSION


def test_another_version_of_the_libraries_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executorch_qnn, "installed_version", lambda *_: "2.6.0")
    with pytest.raises(EnvironmentFailure, match=r"works with onnxruntime-qnn 2\.5\.0; 2\.6\.0 is installed"):
        executorch_qnn.import_library()


def test_without_the_folder_of_libraries_nothing_is_compiled_or_downloaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("QNN_SDK_ROOT", str(tmp_path))
    with pytest.raises(EnvironmentFailure, match="names no folder with Qualcomm's libraries"):
        lower(None)  # nothing of the job is looked at before


def test_without_the_folder_of_libraries_nothing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTSERVE_QNN_HOME", str(tmp_path))
    needs = Needs(files=TARGET.needs().files)
    monkeypatch.setattr(TARGET, "needs", lambda: needs)
    (verdict,) = check_in_process(tmp_path, "own", TARGET)
    assert (verdict.check, verdict.outcome) == (LOAD, Outcome.NOT_RUN)
    assert verdict.message.endswith("is missing: bash scripts/setup_qnn_executorch.sh")
