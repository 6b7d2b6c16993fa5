"""Qualcomm's simulator takes whole models, tells what it does not take, and computes what the file says."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest

from fastserve_device_tests.needs import Needs
from fastserve_device_tests.suite.target_process import LOAD, check_in_process
from fastserve_device_tests.targets import load_target
from fastserve_runtime.conformance.verdict import Outcome, Verdict
from manifests import CHECKS_OF_EXPORTS

TARGET = load_target("onnx:qnn-htp")
QUANTIZED = "onnx-a16w8"

runs_here = pytest.mark.skipif(
    bool(TARGET.needs().missing()) or find_spec("onnxruntime") is None,
    reason="ONNX Runtime or its QNN execution provider (make targets) is not installed",
)


def by_check(verdicts: list[Verdict]) -> dict[str, Verdict]:
    return {verdict.check: verdict for verdict in verdicts}


def end_with_operators_that_only_the_cpu_has(model: onnx.ModelProto) -> None:
    """Put Asinh and Sinh behind the model, which together change nothing."""
    (output,) = model.graph.output
    (last,) = (node for node in model.graph.node if output.name in node.output)
    last.output[list(last.output).index(output.name)] = "before"
    model.graph.node.append(onnx.helper.make_node("Asinh", ["before"], ["between"], name="asinh"))
    model.graph.node.append(onnx.helper.make_node("Sinh", ["between"], [output.name], name="sinh"))


@pytest.fixture(scope="module")
def spoiled(spoil: Callable[..., Path], negate_a_layer: Callable[[onnx.ModelProto], None]) -> dict[str, Verdict]:
    """The verdicts on a model with other weights and two operators that the provider does not take."""
    location = spoil(QUANTIZED, negate_a_layer, end_with_operators_that_only_the_cpu_has)
    return by_check(check_in_process(location, QUANTIZED, TARGET))


@runs_here
@pytest.mark.parametrize("variant", ["onnx-fp32", QUANTIZED])
def test_a_model_runs_there_as_a_whole_and_right(onnx_bundle: Path, variant: str) -> None:
    found = by_check(check_in_process(onnx_bundle, variant, TARGET))
    assert {check: (v.outcome, v.message) for check, v in found.items()} == dict.fromkeys(
        CHECKS_OF_EXPORTS, (Outcome.PASS, "")
    )
    assert found["placement"].figures == {"found": 1, "elsewhere": 0}
    assert found["executor"].figures["sqnr_db"] < 100, "these are not the CPU's numbers"


@runs_here
def test_other_weights_are_a_mismatch(spoiled: dict[str, Verdict]) -> None:
    assert {spoiled[check].outcome for check in ("quality", "executor")} == {Outcome.OUTPUT_MISMATCH}
    assert spoiled["determinism"].outcome is Outcome.PASS


@runs_here
def test_operators_that_the_provider_does_not_take_are_counted(spoiled: dict[str, Verdict]) -> None:
    placement = spoiled["placement"]
    assert placement.outcome is Outcome.FELL_BACK
    assert placement.figures == {"found": 1, "elsewhere": 2}
    assert placement.message == "1 of 3 operators run in QNNExecutionProvider, 2 in CPUExecutionProvider"


def test_without_the_package_nothing_is_run_and_the_command_that_installs_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (command,) = TARGET.needs().modules.values()
    monkeypatch.setattr(TARGET, "needs", lambda: Needs(modules={"a_module_that_nobody_made": command}))
    (verdict,) = check_in_process(tmp_path, "onnx-fp32", TARGET)
    assert (verdict.check, verdict.outcome) == (LOAD, Outcome.NOT_RUN)
    assert verdict.message.endswith("is missing: pip install --no-deps onnxruntime-qnn==2.5.0")
