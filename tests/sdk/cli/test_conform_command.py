"""`fastserve conform`: what it shows, writes and ends with."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import Result
from typer.testing import CliRunner

from fastserve.cli import app, conform_command
from fastserve_device_tests.targets import load_target
from fastserve_runtime.conformance.verdict import Outcome, Verdict
from manifests import CHECKS, text_bundle, variant, write_directory

PASSED = Verdict("v1", "onnx:cpu", "quality", Outcome.PASS)
NOT_RUN = Verdict("v1", "onnx:webgpu", "load", Outcome.NOT_RUN, "the driver is missing")
PARTLY = Verdict("v1", "onnx:cpu", "placement", Outcome.NOT_RUN, "it does not tell")
NO_VARIANT = Verdict("-", "tflite:xnnpack", "applicable", Outcome.NOT_RUN, "the bundle has no variant for tflite")
FAILED = Verdict("v2", "onnx:cpu", "quality", Outcome.OUTPUT_MISMATCH, "far off")


@pytest.fixture(autouse=True)
def _untouched(untouched_warnings_and_logging: None) -> None:
    """Commands set up warnings and logging for their whole process."""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_directory(tmp_path / "text.fsb", *text_bundle())


@pytest.fixture
def give(monkeypatch: pytest.MonkeyPatch):
    """Let the suite give these verdicts."""

    def given(*verdicts: Verdict) -> None:
        monkeypatch.setattr(conform_command, "run_suite", lambda *_: list(verdicts))

    return given


def conform(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["conform", *map(str, words)])


def test_a_small_bundle_conforms_and_every_file_is_written(bundle: Path, tmp_path: Path) -> None:
    junit = tmp_path / "junit.xml"
    done = conform(bundle, "--target", "onnx:cpu", "--strict", "--junit", junit, "--save")
    assert done.exit_code == 0, done.output
    assert "Saved: " in done.stderr
    assert re.findall("^Checking .* on .*$", done.stderr, re.M) == ["Checking first on onnx:cpu"]
    assert "Saved" not in done.stdout
    assert (bundle / "evidence" / "conformance.json").is_file()
    suite = ElementTree.parse(junit).getroot()[0]
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == ("onnx:cpu", str(len(CHECKS)), "0")
    assert float(suite.get("time") or 0) > 0


def test_targets_may_be_given_one_by_one(bundle: Path) -> None:
    done = conform(bundle, "--target", "onnx:cpu", "--target", "tflite:xnnpack, onnx:cpu", "--json")
    assert done.exit_code == 0, done.output
    assert list(dict.fromkeys(v["target"] for v in json.loads(done.stdout)["verdicts"])) == [
        "onnx:cpu",
        "tflite:xnnpack",
    ]


def test_several_targets_are_a_matrix(give) -> None:
    give(PASSED, Verdict("v1", "onnx:webgpu", "quality", Outcome.PASS))
    done = conform("some.fsb")
    assert done.exit_code == 0
    assert "variant and check" in done.stdout
    assert re.search(r"v1 +│ PASS +│ PASS", done.stdout)


def test_json_is_the_document_alone(give, tmp_path: Path) -> None:
    give(PASSED, NOT_RUN)
    done = conform("some.fsb", "--json", "--strict", "--junit", tmp_path / "junit.xml")
    assert done.exit_code == 4
    assert json.loads(done.stdout) == {"bundle": "some.fsb", "verdicts": [v.as_document() for v in (PASSED, NOT_RUN)]}


@pytest.mark.parametrize(
    ("verdicts", "sentence"),
    [
        ([PASSED, NOT_RUN], "v1 on onnx:webgpu"),
        ([PASSED, PARTLY], "placement of v1 on onnx:cpu"),
        ([PASSED, PARTLY, NOT_RUN, NO_VARIANT], "placement of v1 on onnx:cpu; v1 on onnx:webgpu; any variant on tfl"),
        ([NOT_RUN], "v1 on onnx:webgpu"),
    ],
)
def test_strict_fails_for_what_was_not_run_and_names_it(give, verdicts: list[Verdict], sentence: str) -> None:
    give(*verdicts)
    done = conform("some.fsb", "--strict")
    assert done.exit_code == 4
    assert f"Error: Not checked, which --strict does not allow: {sentence}" in done.stderr
    assert conform("some.fsb").exit_code == (0 if PASSED in verdicts else 1)


def test_strict_leaves_other_ends_as_they_are(give) -> None:
    give(PASSED, FAILED)
    done = conform("some.fsb", "--strict")
    assert done.exit_code == 4
    assert "--strict" not in done.stderr
    give(PASSED)
    assert conform("some.fsb", "--strict").exit_code == 0


def test_failures_are_written_too(give, tmp_path: Path) -> None:
    give(PASSED, FAILED)
    junit = tmp_path / "junit.xml"
    assert conform("some.fsb", "--junit", junit).exit_code == 4
    assert ElementTree.parse(junit).getroot().get("failures") == "1"


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(conform_command, "run_suite", pytest.fail)
    for place, sentence in ((tmp_path, "is a folder."), (tmp_path / "none" / "junit.xml", "does not exist.")):
        done = conform("some.fsb", "--junit", place)
        assert done.exit_code == 2
        assert sentence in done.stderr


def test_a_variant_that_a_target_does_not_take_is_named_by_strict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document, contents = text_bundle()
    document["variants"].append(variant("second", precision="int8-dynamic"))
    location = write_directory(tmp_path / "text.fsb", document, contents)
    monkeypatch.setattr(load_target("onnx:cpu"), "PRECISIONS", {"int8-dynamic": "int8-dynamic"})
    done = conform(location, "--target", "onnx:cpu", "--strict")
    assert done.exit_code == 4
    assert "does not allow: first on onnx:cpu." in done.stderr
