"""Arm's emulation of Vulkan's ML extensions computes what VGF graphs say."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastserve_converters.formats import missing_modules
from fastserve_converters.lowerings import load_lowering
from fastserve_device_tests.suite.target_process import LOAD, check_in_process
from fastserve_device_tests.targets import load_target
from fastserve_runtime.conformance.verdict import Outcome, Verdict
from lowered_bundles import altered, lowered, lowered_bundle
from manifests import CHECKS

TARGET = load_target("executorch:vgf")

runs_here = pytest.mark.skipif(
    bool(TARGET.needs().missing() or missing_modules(load_lowering(TARGET.NAME))),
    reason="Arm's packages for VGF, lavapipe or Chromium's loader of Vulkan (make targets) is not installed",
)


def by_check(verdicts: list[Verdict]) -> dict[str, Verdict]:
    return {verdict.check: verdict for verdict in verdicts}


def bundle_of(kind: str, precision: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Read by the compiler when it starts Arm's converter, so late enough here.
    monkeypatch.setenv("MODEL_CONVERTER_PATH", TARGET.needs().environment["MODEL_CONVERTER_PATH"])
    job, made = lowered(kind, TARGET.NAME, precision, folder / "made")
    return lowered_bundle(folder / "b.fsb", job, made, TARGET.NAME)


@runs_here
@pytest.mark.slow
@pytest.mark.parametrize(("kind", "precision"), [("cnn", "int8-static"), ("encoder", "fp32")])
def test_a_model_runs_there_as_a_whole_and_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, precision: str
) -> None:
    location = bundle_of(kind, precision, tmp_path, monkeypatch)
    found = by_check(check_in_process(location, "own", TARGET))
    checks = CHECKS if kind == "encoder" else [c for c in CHECKS if c != "padding invariance"]
    assert {check: (v.outcome, v.message) for check, v in found.items()} == dict.fromkeys(checks, (Outcome.PASS, ""))
    assert found["placement"].figures == {"expected": 1, "found": 1}


@runs_here
@pytest.mark.slow
def test_a_broken_graph_is_a_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    location = bundle_of("cnn", "fp32", tmp_path, monkeypatch)
    spoilt = altered(location, tmp_path / "spoilt.fsb", lambda content: content.replace(b"VGF1", b"1FGV"))
    (verdict,) = check_in_process(spoilt, "own", TARGET)
    assert (verdict.check, verdict.outcome) == (LOAD, Outcome.LOAD_FAILED)
    assert verdict.message.endswith("The program's VGF graph cannot be read. Export it again.")
