"""Artifacts of a target's own in a bundle: made from portable ones, judged by size and quality, executed there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fastserve
from fastserve import ExportResult
from fastserve.search.candidate import Candidate
from fastserve_device_tests.suite.suite import run_suite
from fastserve_device_tests.targets import load_target
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.conformance.verdict import Outcome
from fastserve_runtime.errors import EnvironmentFailure, UsageError

QNN, RKNN, ETHOS = "onnx:qnn-htp", "onnx:rk3588", "tflite:ethos-u55"
OWN = "onnx-qnn-htp-fp32"
Export = Callable[..., ExportResult]


def needs(target: str) -> pytest.MarkDecorator:
    missing = load_target(target).needs().missing()
    return pytest.mark.skipif(bool(missing), reason=f"{target} lacks {' and '.join(missing)} (make targets)")


@pytest.fixture(scope="session")
def export(tiny_bert: Path, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Exports the small encoder to ONNX in fp32, for the given targets."""

    def run(*targets: str, **settings: Any) -> ExportResult:
        wanted = {"formats": ["onnx"], "precisions": ["fp32"], "sequence_length": 32, "keep": "best", **settings}
        location = tmp_path_factory.mktemp("own") / "tiny.fsb"
        return fastserve.export(tiny_bert, location, targets=targets, cache_dir=cache_dir, **wanted)

    return run


@pytest.fixture(scope="session")
def for_qnn(export: Export) -> ExportResult:
    return export(QNN)


def candidate_of(result: ExportResult, identifier: str) -> Candidate:
    return next(c for c in result.candidates if c.id == identifier)


def evidence_of(result: ExportResult, identifier: str) -> dict[str, Any]:
    assert result.bundle is not None
    document: dict[str, Any] = json.loads((result.bundle / "evidence" / f"compilation-{identifier}.json").read_text())
    return document


@needs(QNN)
def test_a_context_binary_is_shipped_beside_the_portable_variant_and_not_chosen(for_qnn: ExportResult) -> None:
    assert for_qnn.shipped == ("onnx-fp32", OWN)
    assert for_qnn.chosen is not None
    assert for_qnn.chosen.id == "onnx-fp32"
    own, portable = candidate_of(for_qnn, OWN), candidate_of(for_qnn, "onnx-fp32")
    assert own.measurement is None
    assert own.quality == portable.quality
    assert own.size != portable.size
    assert any(f"Latency and memory of {OWN} were not judged" in note for note in for_qnn.notes)
    with open_bundle(str(for_qnn.bundle)) as bundle:
        variant = bundle.manifest.variant(OWN)
        assert (variant.target, variant.format, variant.precision) == (QNN, "onnx", "fp32")
        assert [(o.name, o.count) for o in variant.operators] == [("EPContext", 1)]
        assert set(variant.recipe["compiler"]) == {"onnxruntime-qnn", "onnxruntime"}
        assert bundle.read(str(variant.golden)) == bundle.read("golden/onnx-fp32.npz")
    document = evidence_of(for_qnn, OWN)
    assert document["outputs_of"] == "onnx-fp32 on onnxruntime"
    assert document["report"]["operators"]["cpu"] == {}
    assert document["report"]["operators"]["npu"] > 10
    assert "latency" not in document


@needs(QNN)
def test_the_simulator_executes_the_context_binary_and_computes_what_the_portable_file_does(
    for_qnn: ExportResult,
) -> None:
    assert for_qnn.bundle is not None
    found = {v.check: v for v in run_suite(for_qnn.bundle, [QNN]) if v.variant == OWN}
    assert {v.outcome for v in found.values()} == {Outcome.PASS}
    assert found["placement"].figures == {"expected": 1, "found": 1}
    assert found["executor"].figures["sqnr_db"] < 100, "these are not the CPU's numbers"


@needs(QNN)
def test_this_machine_runs_the_portable_variant_and_says_why_not_the_other(for_qnn: ExportResult) -> None:
    assert for_qnn.bundle is not None
    assert fastserve.load(for_qnn.bundle)(["a sentence"]).shape == (1, 32)
    with pytest.raises(EnvironmentFailure, match=f"'{OWN}' is made for {QNN}"):
        fastserve.load(for_qnn.bundle, variant=OWN)
    outcomes = {v.variant: v.outcome for v in fastserve.verify(for_qnn.bundle).verdicts}
    assert outcomes == {"onnx-fp32": Outcome.PASS, OWN: Outcome.NOT_RUN}
    assert {v.variant for v in run_suite(for_qnn.bundle, ["onnx:cpu"])} == {"onnx-fp32"}


@needs(QNN)
def test_a_limit_on_size_leaves_it_out_and_one_on_latency_does_not(for_qnn: ExportResult, export: Export) -> None:
    sizes = {c.id: c.size or 0 for c in for_qnn.candidates}
    limit = min(sizes.values())
    smallest = min(sizes, key=lambda identifier: sizes[identifier])
    strict = export(QNN, max_size=limit)
    fitting = [c.id for c in strict.candidates if c.fits]
    assert fitting == [smallest]
    assert set(strict.shipped) == ({"onnx-fp32"} if smallest == "onnx-fp32" else set()), "nothing ships without it"
    slow = export(QNN, max_latency="1us")
    assert [c.id for c in slow.candidates if c.fits] == [OWN]
    assert slow.bundle is None, "no variant would run here"
    generous = export(QNN, max_size=max(sizes.values()), min_quality=0.9)
    assert generous.shipped == for_qnn.shipped
    compiling = [s for s in generous.stages if s.stage == f"Compile fp32 for {QNN}"]
    assert [s.cached for s in compiling] == [True]


def test_a_target_that_takes_portable_files_adds_nothing(export: Export) -> None:
    result = export("onnx:cpu")
    assert result.shipped == ("onnx-fp32",)
    assert result.notes[0] == "onnx:cpu needs no artifact of its own: it takes the portable onnx ones."


def test_a_precision_that_the_target_does_not_take_is_refused(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastserve.makers.choosing.check_there", lambda _: None)
    with pytest.raises(UsageError, match=f"{QNN} takes none of the precisions that were named"):
        export(QNN, precisions=["int8-dynamic"])


@pytest.mark.slow
@needs(RKNN)
def test_a_file_for_rockchip_is_shipped_and_the_simulator_says_that_it_executes_none(export: Export) -> None:
    result = export(RKNN)
    assert result.shipped == ("onnx-fp32", "onnx-rk3588-fp32")
    assert result.bundle is not None
    file = result.bundle / "variants" / "onnx-rk3588-fp32" / "model.rknn"
    assert file.read_bytes()[:4] == b"RKNN"
    verdicts = [v for v in run_suite(result.bundle, [RKNN]) if v.variant == "onnx-rk3588-fp32"]
    assert [v.outcome for v in verdicts] == [Outcome.NOT_RUN]
    assert "not support inference on the simulator" in verdicts[0].message
    report = evidence_of(result, "onnx-rk3588-fp32")["report"]
    assert report["operators"]["cpu"] == {"CPU (Gather)": 1}


@pytest.mark.slow
@needs(ETHOS)
def test_what_vela_makes_is_shipped_with_its_estimates_as_predictions(export: Export) -> None:
    result = export(ETHOS, formats=["tflite"], precisions=["int8-static"])
    own = "tflite-ethos-u55-int8-static"
    assert result.shipped == ("tflite-int8-static", own)
    document = evidence_of(result, own)
    assert (document["status"], document["target"]) == ("predicted", ETHOS)
    assert document["report"]["estimates"]["cycles"] > 0
    assert "FULLY_CONNECTED" not in document["report"]["operators"]["cpu"], "all integer layers are on the NPU"
    assert result.bundle is not None
    verdicts = {(v.variant, v.check): v for v in run_suite(result.bundle, [ETHOS])}
    assert {key: v.outcome for key, v in verdicts.items()} == {
        ("tflite-int8-static", "compilation"): Outcome.PASS,
        ("tflite-int8-static", "execution"): Outcome.NOT_RUN,
        (own, "execution"): Outcome.NOT_RUN,
    }
    assert "predicted cycles" in verdicts[own, "execution"].message
