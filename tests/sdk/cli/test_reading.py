"""What is inside a bundle, as tables and as a document."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fastserve.bundles.bundle_writer import write_bundle
from fastserve.cli.reading import inspection_tables, verdict_table
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.cli.inspection import device_size, inspection
from fastserve_runtime.conformance.verdict import Outcome, Verdict
from fastserve_runtime.measurement.measurement import measurement_document

HOSTILE = "odd [/b] name [red]"


def rendered(*parts: Any) -> str:
    console = Console(file=StringIO(), width=300)
    for part in parts:
        console.print(part, highlight=False)
    return console.file.getvalue()


def shown(bundle: Path) -> str:
    with open_bundle(bundle) as source:
        return rendered(*inspection_tables(source))


def row_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.lstrip("│ ").startswith(start))


def test_the_document_holds_the_manifest_sizes_and_evidence(small_bundle: Path) -> None:
    with open_bundle(small_bundle) as bundle:
        document = json.loads(json.dumps(inspection(bundle)))
        digest = bundle.manifest.digest
    assert document["bundle"] == str(small_bundle)
    assert document["digest"] == digest
    assert document["manifest"] == json.loads((small_bundle / "manifest.json").read_text())
    assert document["sizes"] == {"onnx-fp32": 302, "tflite-int8": 302}
    assert [e["variant"] for e in document["evidence"]] == ["onnx-fp32"]


def test_the_size_on_a_device_is_model_and_tokenizer_without_licences(small_bundle: Path) -> None:
    with open_bundle(small_bundle) as bundle:
        assert device_size(bundle, bundle.manifest.variant("onnx-fp32")) == len(b"model " * 50) + len(b"{}")


def test_the_tables_show_source_input_variants_and_operators(small_bundle: Path) -> None:
    text = shown(small_bundle)
    assert "feature-extraction, schema 1.0" in text
    assert "source    tiny, licence mit" in text
    assert "input     tokenizer: pad_id 0, pad_token [PAD], sequence_length 8" in text
    assert "p90 and memory measured on Test CPU" in text
    chosen = row_of(text, "onnx-fp32 (chosen)")
    for cell in ("302 B", "0.9700", "10.0 ms", "50.0 MB", "onnxruntime ≥ 1.22", "XNNPACK: 7 of 9"):
        assert cell in chosen
    described = text[text.index("\nonnx-fp32\n") :]
    assert "main (main): input_ids int32[1, 8], attention_mask float32[1, 8] → last_hidden_state" in described
    assert "operators: MatMul 7, Gather 2" in described
    assert row_of(text, "tflite-int8").count(" - ") == 3


def test_a_bundle_without_evidence_says_so(small_bundle: Path) -> None:
    for file in (small_bundle / "evidence").iterdir():
        file.unlink()
    text = shown(small_bundle)
    assert "no measurements" in text
    assert row_of(text, "onnx-fp32 (chosen)").count(" - ") == 3


@pytest.fixture
def write(tmp_path: Path, make_manifest: Callable[..., Any], make_files: Callable[..., Any]) -> Callable[..., Path]:
    def write(evidence: dict[str, Any] | None = None, **fields: Any) -> Path:
        manifest = make_manifest() | fields
        write_bundle(tmp_path / "made.fsb", manifest, make_files(manifest), evidence or {}, force=False)
        return tmp_path / "made.fsb"

    return write


def test_figures_in_doubt_unknown_or_not_judged_are_marked(write, make_measurement) -> None:
    document = {"kind": "measurement", "variant": "onnx-fp32", "quality": None}
    text = shown(write({"m": measurement_document(make_measurement(p90=None, peak=None)) | document}))
    row = row_of(text, "onnx-fp32")
    assert "not trustworthy" in row
    assert "unknown" in row


def test_memory_with_pytorch_in_it_has_a_star(write, make_measurement) -> None:
    document = {"kind": "measurement", "variant": "onnx-fp32", "quality": None}
    text = shown(write({"m": measurement_document(make_measurement(brings_pytorch=True)) | document}))
    assert "50.0 MB *" in text


def test_the_revision_and_an_unknown_licence_are_told(write) -> None:
    source = {"name": "org/model", "revision": "abc123", "weights_sha256": "0", "licence": None}
    assert "source    org/model at abc123, licence unknown" in shown(write(source=source))


def test_names_from_a_bundle_are_shown_as_they_are(tmp_path: Path, make_manifest, make_files, make_measurement) -> None:
    manifest = make_manifest()
    variant = manifest["variants"][0]
    variant["id"] = manifest["chosen"] = HOSTILE
    variant["operators"][0]["name"] = HOSTILE
    variant["expected_placement"]["backend"] = variant["requires"]["engine"] = HOSTILE
    variant["graphs"]["main"]["inputs"][0]["name"] = HOSTILE
    manifest["source"]["name"] = manifest["source"]["licence"] = HOSTILE
    manifest["preprocessing"]["kind"] = HOSTILE
    measurement = measurement_document(make_measurement(processor=HOSTILE))
    measurement |= {"kind": "measurement", "variant": HOSTILE}
    location = tmp_path / "odd [bold] bundle.fsb"
    write_bundle(location, manifest, make_files(manifest), {"m": measurement}, force=False)
    text = shown(location)
    for start in ("source", "input", "main", "operators"):
        assert HOSTILE in row_of(text, start)
    assert f"\n{HOSTILE}\n" in text
    assert f"{HOSTILE} (chosen)" in text
    assert f"measured on {HOSTILE}" in text
    assert f"{HOSTILE}: 7 of 9" in text
    assert f"{HOSTILE} ≥ 1.22" in text
    assert "odd [bold] bundle.fsb" in text


def test_verdicts_are_shown_with_their_figures() -> None:
    verdicts = [
        Verdict("v1", "onnx:cpu", "quality", Outcome.PASS, figures={"sqnr_db": 92.12345}),
        Verdict("v2", "onnx:cpu", "executor", Outcome.OUTPUT_MISMATCH, HOSTILE, {"largest_error": float("inf")}),
        Verdict("v3", "tflite:xnnpack", "load", Outcome.NOT_RUN, "no engine"),
    ]
    text = rendered(verdict_table(verdicts))
    assert "sqnr db 92.12" in row_of(text, "v1")
    assert "PASS" in row_of(text, "v1")
    assert "OUTPUT_MISMATCH" in row_of(text, "v2")
    assert f"{HOSTILE}; largest error inf" in row_of(text, "v2")
    assert "NOT_RUN" in row_of(text, "v3")
    assert "no engine" in row_of(text, "v3")
