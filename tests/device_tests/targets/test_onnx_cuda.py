"""CUDA's numbers are fp32's where TF32 is off; a machine without a device is told so."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from fastserve_device_tests.executors.onnx_cuda import INSTALL
from fastserve_device_tests.suite.target_process import LOAD, check_in_process
from fastserve_device_tests.targets import load_target, onnx_cuda
from fastserve_runtime.bundle.manifest import parse_variant
from fastserve_runtime.conformance.verdict import Outcome
from fastserve_runtime.errors import EnvironmentFailure
from fastserve_runtime.parsing import Fields
from manifests import CHECKS, variant

TARGET = load_target("onnx:cuda")
LACKING = TARGET.needs().missing()
SCRIPT = Path(__file__).parents[3] / "scripts" / "setup_cuda.sh"


@pytest.fixture
def without_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_cuda, "_DRIVER_FILES", ())


@pytest.mark.skipif(bool(LACKING), reason=f"{' and '.join(LACKING)} is missing: {'; '.join(LACKING.values())}")
def test_an_encoder_runs_there_as_a_whole_and_right(onnx_bundle: Path) -> None:
    found = {v.check: v for v in check_in_process(onnx_bundle, "onnx-fp32", TARGET)}
    assert {check: found[check].outcome for check in CHECKS} == dict.fromkeys(CHECKS, Outcome.PASS)
    assert found["executor"].figures["sqnr_db"] > 100, "TF32 reaches 66 dB"


@pytest.mark.usefixtures("without_device")
def test_a_machine_without_a_device_is_told_so(tmp_path: Path) -> None:
    (verdict,) = check_in_process(tmp_path, "first", TARGET)
    assert (verdict.check, verdict.outcome) == (LOAD, Outcome.NOT_RUN)
    assert verdict.message.startswith("a CUDA device with its driver")
    assert verdict.message.endswith(INSTALL)


def test_its_process_gets_the_environments_packages_before_our_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "lib" / "python3.12" / "site-packages"
    packages.mkdir(parents=True)
    monkeypatch.setenv(onnx_cuda.HOME, str(tmp_path))
    needs = TARGET.needs()
    assert needs.interpreter == tmp_path / "bin" / "python"
    assert needs.environment["PYTHONPATH"].split(os.pathsep)[0] == str(packages)


def test_a_version_that_is_too_old_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    requires = {"engine": "onnxruntime", "min_version": "1.22", "backends": [], "platforms": []}
    wanted = parse_variant(Fields(variant(requires=requires), "the variant"))
    monkeypatch.setattr("fastserve_device_tests.executors.onnx_cuda.version", lambda: "1.21.0")
    with pytest.raises(EnvironmentFailure, match=r"needs ONNX Runtime on CUDA 1\.22 or later; 1\.21\.0 is installed"):
        TARGET.engine(wanted)
    monkeypatch.setattr("fastserve_device_tests.executors.onnx_cuda.version", lambda: "1.31.1")
    assert TARGET.engine(wanted).NAME == "ONNX Runtime on CUDA"


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is a device, so the script would install")
def test_nothing_is_installed_without_a_device(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", str(SCRIPT), str(tmp_path / "cuda")], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "nothing was installed" in done.stderr
    assert not (tmp_path / "cuda").exists()
