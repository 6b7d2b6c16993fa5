"""WebGPU's shaders take whole models in float, and what they leave to the CPU is counted."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest

from fastserve_device_tests.suite.target_process import LOAD, check_in_process
from fastserve_device_tests.targets import load_target, onnx_webgpu
from fastserve_runtime.conformance.verdict import Outcome, Verdict
from manifests import CHECKS_OF_EXPORTS

TARGET = load_target("onnx:webgpu")
QUANTIZED = "onnx-a16w8"

runs_here = pytest.mark.skipif(
    bool(TARGET.needs().missing()) or find_spec("onnxruntime") is None,
    reason="ONNX Runtime, its WebGPU execution provider or SwiftShader (make targets) is not installed",
)


def by_check(verdicts: list[Verdict]) -> dict[str, Verdict]:
    return {verdict.check: verdict for verdict in verdicts}


@pytest.fixture(scope="module")
def spoiled(spoil: Callable[..., Path], negate_a_layer: Callable[[onnx.ModelProto], None]) -> dict[str, Verdict]:
    """The verdicts on a model with other weights, whose operators on 16-bit integers no shader computes."""
    return by_check(check_in_process(spoil(QUANTIZED, negate_a_layer), QUANTIZED, TARGET))


@runs_here
def test_a_model_runs_there_as_a_whole_and_right(onnx_bundle: Path) -> None:
    found = by_check(check_in_process(onnx_bundle, "onnx-fp32", TARGET))
    assert {check: (v.outcome, v.message) for check, v in found.items()} == dict.fromkeys(
        CHECKS_OF_EXPORTS, (Outcome.PASS, "")
    )
    placement = found["placement"].figures
    assert placement["found"] > 50
    assert placement["elsewhere"] == 0
    assert found["executor"].figures["largest_error"] > 0, "these are not the CPU's numbers"


@runs_here
def test_other_weights_are_a_mismatch(spoiled: dict[str, Verdict]) -> None:
    assert {spoiled[check].outcome for check in ("quality", "executor")} == {Outcome.OUTPUT_MISMATCH}
    assert spoiled["determinism"].outcome is Outcome.PASS


@runs_here
def test_operators_that_no_shader_computes_are_counted(spoiled: dict[str, Verdict]) -> None:
    placement = spoiled["placement"]
    assert placement.outcome is Outcome.FELL_BACK
    found, elsewhere = (int(placement.figures[name]) for name in ("found", "elsewhere"))
    assert found > 0
    assert elsewhere > 0
    assert placement.message == (
        f"{found} of {found + elsewhere} operators run in WebGpuExecutionProvider, {elsewhere} in CPUExecutionProvider"
    )


@pytest.mark.parametrize("driver", [None, Path("none") / "vk_swiftshader_icd.json"])
def test_without_the_driver_nothing_is_run_and_the_command_that_installs_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: Path | None
) -> None:
    monkeypatch.setattr(onnx_webgpu, "first_that_exists", lambda *_: driver)
    (verdict,) = check_in_process(tmp_path, "onnx-fp32", TARGET)
    assert (verdict.check, verdict.outcome) == (LOAD, Outcome.NOT_RUN)
    assert "SwiftShader's Vulkan driver" in verdict.message
    assert "apt-get install chromium" in verdict.message
