"""What goes into a bundle's evidence for a candidate."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from fastserve.bundles.evidence import evidence_of

COMPILATION = {
    "compiler": {"ethos-u-vela": "5.2.0"},
    "seconds": 1.5,
    "outputs_of": "tflite-int8-static on litert",
    "report": {"bytes": 7, "estimates": {"cycles": 9}},
}
TIME = "2026-11-23T00:00:00+00:00"


def test_a_float_variant_has_its_measurement_alone(make_candidate, tmp_path: Path) -> None:
    candidate = replace(make_candidate("onnx-fp32", size=7), folder=tmp_path)
    ((name, document),) = evidence_of(candidate, TIME)
    assert name == "measurement-onnx-fp32"
    assert document["kind"] == "measurement"
    assert document["variant"] == "onnx-fp32"
    assert document["time"] == TIME
    assert document["size"] == 7
    assert document["quality"]["value"] == 1.0
    assert document["latency"]["p90"] == 0.01


def test_a_quantized_variant_brings_what_its_conversion_did(make_candidate, tmp_path: Path) -> None:
    layers = {"source": "the artifact", "samples": 8, "sqnr_db": {"dense": 31.0}}
    graph = {"before": {"MatMul": 2}, "after": {"Attention": 1}}
    (tmp_path / "layer_sqnr.json").write_text(json.dumps(layers))
    (tmp_path / "graph_optimization.json").write_text(json.dumps(graph))
    (tmp_path / "kept_in_float.json").write_text(json.dumps({"kept_in_float": ["dense"]}))
    fake_quant_reference = {"sqnr_db": 35.0, "min_cosine": 0.999, "samples": 64}
    candidate = replace(make_candidate("onnx-int8-dynamic"), folder=tmp_path, fake_quant_reference=fake_quant_reference)
    _, (name, document) = evidence_of(candidate, TIME)
    assert name == "conversion-onnx-int8-dynamic"
    assert document["kind"] == "conversion"
    assert document["layers"] == layers
    assert document["graph_optimization"] == graph
    assert document["fake_quant_reference"] == fake_quant_reference
    assert document["kept_in_float"] == {"kept_in_float": ["dense"]}


def test_what_was_made_for_a_target_has_what_its_compiler_told_and_no_measurement(make_candidate) -> None:
    candidate = replace(make_candidate("tflite-x-int8", size=7), target="tflite:x", compilation=COMPILATION)
    ((name, document),) = evidence_of(replace(candidate, measurement=None), TIME)
    assert name == "compilation-tflite-x-int8"
    assert {key: document[key] for key in ("kind", "status", "target", "size", "seconds", "outputs_of")} == {
        "kind": "compilation",
        "status": "predicted",
        "target": "tflite:x",
        "size": 7,
        "seconds": 1.5,
        "outputs_of": "tflite-int8-static on litert",
    }
    assert document["report"] == COMPILATION["report"]
    assert document["quality"]["value"] == 1.0


def test_a_compilation_without_estimates_is_no_prediction(make_candidate) -> None:
    compilation = {**COMPILATION, "report": {"bytes": 7}}
    candidate = replace(make_candidate("onnx-x-fp32"), target="onnx:x", compilation=compilation)
    ((_, document),) = evidence_of(candidate, TIME)
    assert document["status"] == "measured"
