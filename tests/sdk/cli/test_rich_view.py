"""What is inside a bundle, as the runtime's commands tell it in a terminal's colours."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fastserve.bundles.bundle_writer import write_bundle
from fastserve.cli.rich_view import RichView, rich_table
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.cli.inspect_command import show_bundle, trials_table
from fastserve_runtime.cli.inspection import device_size, inspection
from fastserve_runtime.cli.verify_command import verdict_table
from fastserve_runtime.conformance.verdict import Outcome, Verdict
from fastserve_runtime.measurement.engine_trials import EngineTrial
from fastserve_runtime.measurement.measurement import measurement_document
from fastserve_runtime.results import Table

HOSTILE = "odd [/b] name [red]"


def rendered(*parts: Any) -> str:
    console = Console(file=StringIO(), width=300)
    for part in parts:
        console.print(part, highlight=False)
    return console.file.getvalue()


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], str]:
    def shown(bundle: Path) -> str:
        console = Console(file=StringIO(), width=300)
        monkeypatch.setattr("fastserve.cli.rich_view.output_console", lambda: console)
        with open_bundle(bundle) as source:
            show_bundle(source, RichView())
        return console.file.getvalue()

    return shown


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


def test_the_tables_show_source_input_variants_and_operators(small_bundle: Path, shown) -> None:
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


def test_a_bundle_without_evidence_says_so(small_bundle: Path, shown) -> None:
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


def test_figures_in_warning_unknown_or_not_judged_are_marked(write, shown, make_measurement) -> None:
    document = {"kind": "measurement", "variant": "onnx-fp32", "quality": None}
    text = shown(write({"m": measurement_document(make_measurement(p90=None, peak=None)) | document}))
    row = row_of(text, "onnx-fp32")
    assert "not trustworthy" in row
    assert "unknown" in row


def test_memory_with_pytorch_in_it_has_a_star(write, shown, make_measurement) -> None:
    document = {"kind": "measurement", "variant": "onnx-fp32", "quality": None}
    text = shown(write({"m": measurement_document(make_measurement(brings_pytorch=True)) | document}))
    assert "50.0 MB *" in text


def test_the_revision_and_an_unknown_licence_are_told(write, shown) -> None:
    source = {"name": "org/model", "revision": "abc123", "weights_sha256": "0", "licence": None}
    assert "source    org/model at abc123, licence unknown" in shown(write(source=source))


def test_names_from_a_bundle_are_shown_as_they_are(
    tmp_path: Path, shown, make_manifest, make_files, make_measurement
) -> None:
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
    text = rendered(rich_table(verdict_table(verdicts)))
    assert "sqnr db 92.12" in row_of(text, "v1")
    assert "PASS" in row_of(text, "v1")
    assert "OUTPUT_MISMATCH" in row_of(text, "v2")
    assert f"{HOSTILE}; largest error inf" in row_of(text, "v2")
    assert "NOT_RUN" in row_of(text, "v3")
    assert "no engine" in row_of(text, "v3")


def colours(table: Table) -> str:
    console = Console(file=StringIO(), width=200, force_terminal=True, color_system="standard")
    console.print(rich_table(table))
    return console.file.getvalue()


def test_outcomes_have_colours() -> None:
    text = colours(
        verdict_table(
            [
                Verdict("v1", "onnx:cpu", "quality", Outcome.PASS),
                Verdict("v2", "onnx:cpu", "quality", Outcome.OUTPUT_MISMATCH),
                Verdict("v3", "onnx:cpu", "quality", Outcome.NOT_RUN),
            ]
        )
    )
    assert "\x1b[32mPASS" in text
    assert "\x1b[1;31mOUTPUT_MISMATCH" in text
    assert "\x1b[33mNOT_RUN" in text
    assert "\x1b[32mv1" not in text


def test_engines_that_do_not_run_have_a_row_in_red() -> None:
    text = colours(trials_table([EngineTrial("onnxruntime", "onnx", "1.30", runs=False, problem="it crashed")]))
    assert "\x1b[1;31monnxruntime" in text
    assert "\x1b[1;31mit crashed" in text


def test_numbers_stand_at_the_right() -> None:
    table = rich_table(Table(("text", "score"), (("a", "1"),), ("score",)))
    assert [column.justify for column in table.columns] == ["left", "right"]
