"""The suite on whole bundles: each variant on each target in a process of its own."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import fastserve
from fastserve_device_tests.needs import Needs
from fastserve_device_tests.suite.suite import APPLICABLE, NO_VARIANT, Pairing, pairings, run_suite
from fastserve_device_tests.suite.target_process import LOAD, RUN, check_in_process, check_variant
from fastserve_device_tests.targets import chosen_targets, load_target
from fastserve_runtime.bundle.golden import read_golden, write_golden
from fastserve_runtime.conformance.verdict import Outcome, Verdict
from fastserve_runtime.errors import BundleError, EnvironmentFailure, UsageError
from manifests import (
    CHECKS,
    GOLDEN,
    MODEL,
    Contents,
    file_entries,
    text_bundle,
    text_model,
    variant,
    write_directory,
    write_zip,
)

ONNX = load_target("onnx:cpu")


def write(tmp_path: Path, *, contents: Contents | None = None, **changes: Any) -> Path:
    """A small bundle that runs, with other contents or other fields of its variant."""
    document, own = text_bundle()
    own |= contents or {}
    document["files"] = file_entries(own)
    document["variants"][0] |= changes
    return write_directory(tmp_path / "text.fsb", document, own)


def checked(verdicts: list[Verdict]) -> list[tuple[str, Outcome]]:
    return [(v.check, v.outcome) for v in verdicts]


def test_each_variant_is_checked_on_its_target_and_a_target_without_variant_is_told(tmp_path: Path) -> None:
    document, contents = text_bundle()
    document["variants"].append(variant("second", precision="int8-dynamic"))
    location = write_directory(tmp_path / "text.fsb", document, contents)
    started: list[str] = []
    verdicts = run_suite(location, on_start=started.append)
    passed = [v for v in verdicts if v.target == "onnx:cpu"]
    assert checked(passed) == [(check, Outcome.PASS) for check in CHECKS] * 2
    assert [v.variant for v in passed] == ["first"] * len(CHECKS) + ["second"] * len(CHECKS)
    assert started == ["first on onnx:cpu", "second on onnx:cpu"]
    others = [v for v in verdicts if v.target != "onnx:cpu"]
    assert checked(others) == [(APPLICABLE, Outcome.NOT_RUN)] * (len(chosen_targets(None)) - 1)
    assert others[0].message == "the bundle has no variant for executorch"


def test_what_is_to_be_checked_is_told_without_checking_it(tmp_path: Path) -> None:
    document, contents = text_bundle()
    document["variants"].append(variant("second", precision="int8-dynamic"))
    location = write_directory(tmp_path / "text.fsb", document, contents)
    found = pairings(location, ["onnx:cpu", "tflite:xnnpack"])
    assert [str(p) for p in found] == ["first on onnx:cpu", "second on onnx:cpu", f"{NO_VARIANT} on tflite:xnnpack"]
    assert [p.obstacle for p in found] == ["", "", "the bundle has no variant for tflite"]


def test_how_long_each_variant_took_is_told(tmp_path: Path) -> None:
    ended: list[tuple[Pairing, float]] = []
    run_suite(write(tmp_path), ["onnx:cpu", "tflite:xnnpack"], on_end=lambda *what: ended.append(what))
    assert [(p.variant, p.target.NAME) for p, _ in ended] == [("first", "onnx:cpu")]
    assert ended[0][1] > 0


@pytest.mark.parametrize("put", [write_directory, write_zip])
def test_a_directory_and_a_zip_are_checked_alike(tmp_path: Path, put) -> None:
    location = put(tmp_path / "text.zip", *text_bundle())
    assert checked(run_suite(location, ["onnx:cpu"])) == [(check, Outcome.PASS) for check in CHECKS]


def test_the_python_api_takes_a_path_as_text(tmp_path: Path) -> None:
    verdicts = fastserve.conform(str(write(tmp_path)), targets=["onnx:cpu"])
    assert {v.outcome for v in verdicts} == {Outcome.PASS}


def test_a_variant_for_another_target_is_left_out(tmp_path: Path) -> None:
    verdicts = run_suite(write(tmp_path, target="onnx:board"), ["onnx:cpu"])
    assert checked(verdicts) == [(APPLICABLE, Outcome.NOT_RUN)]


def test_a_variant_for_this_target_is_checked(tmp_path: Path) -> None:
    verdicts = run_suite(write(tmp_path, target="onnx:cpu"), ["onnx:cpu"])
    assert len(verdicts) == len(CHECKS)


def test_no_targets_give_no_verdicts(tmp_path: Path) -> None:
    assert run_suite(write(tmp_path), []) == []


def test_an_unknown_target_is_refused_before_anything_is_checked(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no target 'onnx:gpu'"):
        run_suite(write(tmp_path), ["onnx:cpu", "onnx:gpu"], on_start=pytest.fail)


def test_a_missing_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no bundle at"):
        run_suite(tmp_path / "missing.fsb")


def test_a_damaged_bundle_is_refused_before_anything_is_checked(tmp_path: Path) -> None:
    location = write(tmp_path)
    (location / MODEL).write_bytes(bytes(len((location / MODEL).read_bytes())))
    with pytest.raises(BundleError, match="altered or damaged"):
        run_suite(location, on_start=pytest.fail)


def test_another_model_than_the_golden_tells_of_is_a_mismatch(tmp_path: Path) -> None:
    golden = read_golden(text_bundle()[1][GOLDEN])
    other = {name: -values for name, values in golden.artifact.items()}
    content = write_golden(replace(golden, reference=other, artifact=other))
    verdicts = dict(checked(check_in_process(write(tmp_path, contents={GOLDEN: content}), "first", ONNX)))
    assert verdicts["quality"] is verdicts["executor"] is Outcome.OUTPUT_MISMATCH
    assert verdicts["determinism"] is Outcome.PASS


def test_a_model_that_the_engine_refuses_is_a_failed_load(tmp_path: Path) -> None:
    verdicts = check_in_process(write(tmp_path, contents={MODEL: b"no model"}), "first", ONNX)
    assert checked(verdicts) == [(LOAD, Outcome.LOAD_FAILED)]
    assert "cannot load the model" in verdicts[0].message


def test_a_model_that_fails_while_it_runs_is_a_failed_run(tmp_path: Path) -> None:
    verdicts = check_in_process(write(tmp_path, contents={MODEL: text_model(rows=4)}), "first", ONNX)
    assert checked(verdicts) == [(RUN, Outcome.RUN_FAILED)]
    assert verdicts[0].message


def test_an_engine_that_is_too_old_is_not_run(tmp_path: Path) -> None:
    requires = {"engine": "onnxruntime", "min_version": "999.0", "backends": [], "platforms": []}
    verdicts = list(check_variant(write(tmp_path, requires=requires), "first", ONNX))
    assert checked(verdicts) == [(LOAD, Outcome.NOT_RUN)]
    assert "999.0 or later" in verdicts[0].message


def test_a_variant_without_golden_is_not_run(tmp_path: Path) -> None:
    document, contents = text_bundle()
    document["variants"][0]["golden"] = None
    del contents[GOLDEN], document["files"][GOLDEN]
    location = write_directory(tmp_path / "text.fsb", document, contents)
    verdicts = run_suite(location, ["onnx:cpu"])
    assert checked(verdicts) == [(RUN, Outcome.NOT_RUN)]
    assert "no golden" in verdicts[0].message


def be(interpreter: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a shell script in the interpreter's place, so that the checking process is whatever it does."""
    interpreter.write_text(f"#!/bin/sh\n{script}\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo first >&2; echo last words >&2; exit 7", "the process ended with exit code 7: last words"),
        ("kill -SEGV $$", "the process crashed with SIGSEGV"),
        ("echo rubbish", "the process ended with exit code 0"),
        ("printf '[{\"variant\": '", "the process ended with exit code 0"),
    ],
)
def test_a_crash_or_rubbish_is_a_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    location = write(tmp_path)
    be(tmp_path / "interpreter", script, monkeypatch)
    verdicts = run_suite(location, ["onnx:cpu"])
    assert checked(verdicts) == [(RUN, Outcome.RUN_FAILED)]
    assert verdicts[0].message == message
    assert (verdicts[0].variant, verdicts[0].target) == ("first", "onnx:cpu")


def test_a_process_that_hangs_is_ended_and_a_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ONNX, "needs", lambda: Needs(seconds=0.5))
    location = write(tmp_path)
    be(tmp_path / "interpreter", "exec sleep 600", monkeypatch)
    verdicts = run_suite(location, ["onnx:cpu"])
    assert checked(verdicts) == [(RUN, Outcome.RUN_FAILED)]
    assert "gave no answer in 0.5 s and was ended" in verdicts[0].message


def test_a_process_that_takes_too_much_memory_is_ended_and_a_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ONNX, "needs", lambda: Needs(memory=100 * 2**20))
    location = write(tmp_path)
    hungry = "import time; x = bytearray(b'1' * 300_000_000); time.sleep(60)"
    be(tmp_path / "interpreter", f'exec {sys.executable} -c "{hungry}"', monkeypatch)
    verdicts = run_suite(location, ["onnx:cpu"])
    assert checked(verdicts) == [(RUN, Outcome.RUN_FAILED)]
    assert "of memory and was ended; 0.1 GiB are allowed" in verdicts[0].message


def test_a_target_that_lacks_something_is_not_run_and_tells_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = Needs(
        modules={"a_module_that_nobody_made": "pip install it"},
        files=((None, "the driver", "apt-get install driver"), (tmp_path / "none", "the tool", "pip install it")),
    )
    monkeypatch.setattr(ONNX, "needs", lambda: lacking)
    verdicts = run_suite(write(tmp_path), ["onnx:cpu"])
    assert checked(verdicts) == [(LOAD, Outcome.NOT_RUN)]
    assert verdicts[0].message == (
        "the package a_module_that_nobody_made and the driver and the tool is missing: "
        "pip install it; apt-get install driver"
    )


def test_the_process_gets_the_targets_interpreter_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "interpreter"
    script.write_text('#!/bin/sh\necho "$DRIVER is here" >&2; exit 3\n')
    script.chmod(0o755)
    monkeypatch.setattr(ONNX, "needs", lambda: Needs(environment={"DRIVER": "shader"}, interpreter=script))
    verdicts = run_suite(write(tmp_path), ["onnx:cpu"])
    assert verdicts[0].message == "the process ended with exit code 3: shader is here"


def test_an_engine_without_a_device_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_session(*_arguments: object, **_settings: object) -> None:
        raise EnvironmentFailure("The GPU's driver finds no device.", "Look for one.")

    engine = SimpleNamespace(NAME="a GPU's", open_session=open_session)
    monkeypatch.setattr(ONNX, "engine", lambda variant: engine)
    verdicts = list(check_variant(write(tmp_path), "first", ONNX))
    assert checked(verdicts) == [(LOAD, Outcome.NOT_RUN)]
    assert verdicts[0].message == "The GPU's driver finds no device. Look for one."


def test_a_precision_that_a_target_does_not_take_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ONNX, "PRECISIONS", {"a16w8": "a16w8"})
    verdicts = run_suite(write(tmp_path), ["onnx:cpu"])
    assert checked(verdicts) == [(APPLICABLE, Outcome.NOT_RUN)]
    assert verdicts[0].message == "it takes a16w8, not fp32"


def test_a_variant_is_judged_by_the_precision_that_the_target_computes_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden = read_golden(text_bundle()[1][GOLDEN])
    near = {name: (values * 1.001).astype(values.dtype) for name, values in golden.artifact.items()}
    location = write(tmp_path, contents={GOLDEN: write_golden(replace(golden, artifact=near))})
    assert dict(checked(list(check_variant(location, "first", ONNX))))["executor"] is Outcome.OUTPUT_MISMATCH
    monkeypatch.setattr(ONNX, "PRECISIONS", {"fp32": "fp16"})
    assert dict(checked(list(check_variant(location, "first", ONNX))))["executor"] is Outcome.PASS


def test_figures_that_are_not_finite_survive_the_way_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    location = write(tmp_path)
    sent = Verdict("first", "onnx:cpu", "quality", Outcome.PASS, "", {"sqnr_db": float("inf"), "cosine": 0.5})
    answer = json.dumps({"verdicts": [sent.as_document()], "arrays": []})
    length = "".join(f"\\{byte:03o}" for byte in len(answer).to_bytes(4, "little"))
    be(tmp_path / "interpreter", f"printf '{length}%s' '{answer}'; cat > /dev/null", monkeypatch)
    assert run_suite(location, ["onnx:cpu"]) == [sent]
