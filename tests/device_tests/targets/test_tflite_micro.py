"""TFLite Micro runs small models of fixed shapes, and tells what it lacks for others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from fastserve_converters.formats.tflite.writing import OPEN
from fastserve_device_tests.executors import tflite_micro
from fastserve_device_tests.executors.tflite_micro import open_session, reason_of_refusal
from fastserve_device_tests.needs import Needs
from fastserve_device_tests.suite.suite import APPLICABLE, run_suite
from fastserve_device_tests.suite.target_process import LOAD, check_in_process
from fastserve_device_tests.targets import load_target
from fastserve_runtime.conformance.verdict import Outcome, Verdict
from fastserve_runtime.errors import UsageError
from manifests import CHECKS, word_vectors
from tflite_bundles import gelu_end, int8_end, text_model, tflite_bundle

TARGET = load_target("tflite:micro")

runs_here = pytest.mark.skipif(
    bool(TARGET.needs().missing()) or find_spec("ai_edge_litert") is None,
    reason="the package tflite-micro (make targets), or LiteRT, which writes the models, is not installed",
)


def by_check(verdicts: list[Verdict]) -> dict[str, Verdict]:
    return {verdict.check: verdict for verdict in verdicts}


@runs_here
@pytest.mark.parametrize("precision", ["fp32", "int8-static"])
def test_a_model_runs_there_right_and_its_memory_is_told(tmp_path: Path, precision: str) -> None:
    content = text_model(int8_end if precision == "int8-static" else None)
    bundle = tflite_bundle(tmp_path / "b.fsb", content, precision=precision)
    found = by_check(check_in_process(bundle, "first", TARGET))
    assert {check: v.outcome for check, v in found.items()} == dict.fromkeys(CHECKS, Outcome.PASS)
    assert (found["executor"].figures["sqnr_db"] < 80) is (precision == "int8-static")
    start, middle, end = found["placement"].message.partition("; they take ")
    assert start == "TFLite Micro's own kernels execute all operators"
    assert 1000 < int(end.removesuffix(" bytes of its arena").replace(",", "")) < 5000, middle


@runs_here
def test_other_weights_are_a_mismatch(tmp_path: Path) -> None:
    vectors = word_vectors()
    vectors[4] *= -1
    bundle = tflite_bundle(tmp_path / "b.fsb", text_model(int8_end, vectors=vectors), precision="int8-static")
    found = by_check(check_in_process(bundle, "first", TARGET))
    assert {found[check].outcome for check in ("quality", "executor")} == {Outcome.OUTPUT_MISMATCH}
    assert found["determinism"].outcome is Outcome.PASS


@runs_here
@pytest.mark.parametrize(
    ("make", "is_open", "message"),
    [
        (partial(text_model, gelu_end), False, "ENGINE cannot load the model: it has no operator GELU."),
        (
            partial(text_model, length=OPEN),
            True,
            "ENGINE takes fixed shapes only; the size 'length' of 'input_ids' is open.",
        ),
        (lambda: b"no model", False, "ENGINE: The file is not a TFLite model: it lacks the identifier 'TFL3'."),
        (lambda: b"\xff\xff\xff\x0fTFL3", False, "ENGINE cannot load the model: "),
    ],
    ids=["operator", "open length", "not a model", "damaged"],
)
def test_a_model_that_it_does_not_take_is_a_failed_load(
    tmp_path: Path, make: Callable[[], bytes], is_open: bool, message: str
) -> None:
    bundle = tflite_bundle(tmp_path / "b.fsb", make(), is_open=is_open)
    (verdict,) = check_in_process(bundle, "first", TARGET)
    assert (verdict.check, verdict.outcome) == (LOAD, Outcome.LOAD_FAILED)
    assert verdict.message.startswith(message.replace("ENGINE", f"TFLite Micro {tflite_micro.version()}"))


def test_an_operator_is_named_that_is_there_but_not_for_these_types() -> None:
    words = [
        "kernels/cumsum.cc:58 input->type == kTfLiteFloat32 was not true.",
        "Node CUMSUM (number 2) failed to prepare with status 1",
    ]
    assert reason_of_refusal(words) == (
        "its operator CUMSUM does not take what node 2 asks "
        "(kernels/cumsum.cc:58 input->type == kTfLiteFloat32 was not true)"
    )
    assert reason_of_refusal(["Not enough room.", ""]) == "Not enough room"
    assert reason_of_refusal([]) == ""


def test_dynamic_int8_is_not_for_it(tmp_path: Path) -> None:
    (verdict,) = run_suite(tflite_bundle(tmp_path / "b.fsb", b"never read", precision="int8-dynamic"), [TARGET.NAME])
    assert (verdict.check, verdict.outcome) == (APPLICABLE, Outcome.NOT_RUN)


def test_a_model_of_several_graphs_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tflite_bundle(tmp_path / "b.fsb", b"never read", names=["one", "two"])
    monkeypatch.setattr(TARGET, "needs", Needs)
    (verdict,) = check_in_process(bundle, "first", TARGET)
    assert verdict.outcome is Outcome.NOT_RUN


def test_a_bare_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not open a bare file"):
        open_session(tmp_path / "model.tflite", None, threads=1)


def test_without_the_package_nothing_is_run_and_the_command_that_installs_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = Needs(modules={"tflite_micro_that_nobody_made": TARGET.needs().modules["tflite_micro"]})
    monkeypatch.setattr(TARGET, "needs", lambda: lacking)
    (verdict,) = check_in_process(tmp_path, "first", TARGET)
    assert (verdict.check, verdict.outcome) == (LOAD, Outcome.NOT_RUN)
    assert verdict.message.endswith("is missing: pip install --no-deps tflite-micro==0.dev20261023182759")
