"""Verdicts that are kept with the bundle that they are about."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import fastserve_runtime
from fastserve.bundles.conformance_evidence import save_verdicts
from fastserve_device_tests.suite.suite import run_suite
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.conformance.verdict import Outcome, Verdict
from manifests import text_bundle, write_directory, write_zip

Writer = Callable[..., Path]


@pytest.mark.parametrize(
    ("put", "name", "place"),
    [
        (write_directory, "text.fsb", "text.fsb/evidence/conformance.json"),
        (write_zip, "text.fsb.zip", "text.fsb.zip.evidence/conformance.json"),
    ],
)
def test_verdicts_are_evidence_and_the_bundle_still_verifies(
    tmp_path: Path, put: Writer, name: str, place: str
) -> None:
    location = put(tmp_path / name, *text_bundle())
    verdicts = run_suite(location, ["onnx:cpu"])
    assert save_verdicts(location, verdicts) == tmp_path / place
    assert [f.name for f in (tmp_path / place).parent.iterdir()] == ["conformance.json"]
    with open_bundle(location) as bundle:
        bundle.check_integrity()
        (document,) = bundle.evidence()
        assert document["manifest"] == bundle.manifest.digest
    assert document["kind"] == "conformance"
    assert document["fastserve"] == fastserve_runtime.__version__
    assert document["machine"]["processor"]
    assert document["targets"]["onnx:cpu"]["executed_by"] == "hardware"
    assert {"onnxruntime", "python"} <= document["targets"]["onnx:cpu"]["versions"].keys()
    assert document["verdicts"] == [v.as_document() for v in verdicts]


def test_the_same_verdicts_give_the_same_file_whatever_their_order(tmp_path: Path) -> None:
    location = write_directory(tmp_path / "text.fsb", *text_bundle())
    verdicts = [
        Verdict(variant, target, check, Outcome.PASS)
        for variant in ("b", "a")
        for target in ("tflite:xnnpack", "onnx:cpu")
        for check in ("quality", "executor")
    ]
    first = save_verdicts(location, verdicts).read_bytes()
    by_target = sorted(verdicts, key=lambda v: v.target)
    assert save_verdicts(location, by_target).read_bytes() == first
    document = json.loads(first)
    assert "time" not in document
    kept = [(v["target"], v["variant"], v["check"]) for v in document["verdicts"]]
    assert kept[:3] == [("onnx:cpu", "a", "quality"), ("onnx:cpu", "a", "executor"), ("onnx:cpu", "b", "quality")]


def test_what_was_kept_before_is_replaced_and_other_evidence_stays(tmp_path: Path) -> None:
    location = write_directory(tmp_path / "text.fsb", *text_bundle())
    other = location / "evidence" / "measurement-first.json"
    other.parent.mkdir()
    other.write_text("{}")
    save_verdicts(location, [Verdict("first", "onnx:cpu", "quality", Outcome.NOT_RUN)])
    file = save_verdicts(location, [Verdict("first", "onnx:cpu", "quality", Outcome.PASS)])
    assert [v["outcome"] for v in json.loads(file.read_text())["verdicts"]] == ["PASS"]
    assert other.read_text() == "{}"
