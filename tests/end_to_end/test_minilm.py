"""The whole way of a real model: from a checkpoint to bundles that are used, verified and taken apart.

All six layers of MiniLM go this way in the slow tests, and in the demo; two of them in every run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import fastserve
from checkpoints import cut_checkpoint
from fastserve.pipeline.converter_process import ConverterProcess

WHOLE = 6
ALL = {f"{f}-{p}" for f in ("onnx", "tflite", "executorch") for p in ("fp32", "int8-dynamic")}


@pytest.fixture(scope="module", params=[2, pytest.param(WHOLE, marks=pytest.mark.slow)], ids="{}-layers".format)
def layers(request: pytest.FixtureRequest) -> int:
    """So many of MiniLM's layers."""
    number: int = request.param
    return number


@pytest.fixture(scope="module")
def model(minilm: Path, layers: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MiniLM, or its first layers."""
    return minilm if layers == WHOLE else cut_checkpoint(minilm, tmp_path_factory.mktemp("cut") / "model", layers)


@pytest.fixture(scope="module")
def exported(model: Path, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> fastserve.ExportResult:
    """It in all formats, under a budget that fp32 breaks; its `bundle` is a directory."""
    location = tmp_path_factory.mktemp("bundles") / "minilm.fsb"
    return fastserve.export(model, location, max_size="30MB", min_quality=0.98, cache_dir=cache_dir)


def test_budget_that_fp32_breaks_ships_int8_of_every_format(exported: fastserve.ExportResult) -> None:
    assert {c.id for c in exported.candidates} == ALL
    for candidate in exported.candidates:
        assert candidate.failure is None
        assert candidate.fits == (candidate.precision == "int8-dynamic")
    assert set(exported.shipped) == {i for i in ALL if i.endswith("int8-dynamic")}
    assert exported.chosen is not None
    assert exported.chosen.id == exported.shipped[0]


def test_fp32_of_every_format_computes_the_reference(exported: fastserve.ExportResult) -> None:
    for candidate in exported.candidates:
        if candidate.precision == "fp32":
            assert candidate.quality is not None
            assert candidate.quality.name == "similarity Spearman"
            assert candidate.quality.low > 0.999999


def test_every_variant_is_measured_without_pytorch_and_judged_on_memory(exported: fastserve.ExportResult) -> None:
    if find_spec("fastserve_executorch") is None:
        pytest.skip("fastserve-executorch is not built here, so ExecuTorch brings PyTorch")
    for candidate in exported.candidates:
        assert candidate.measurement is not None
        assert candidate.measurement.brings_pytorch is False
        assert candidate.is_memory_judged
        # With PyTorch it would be above 350 MB.
        assert candidate.measurement.memory.peak < (120e6 if candidate.precision == "int8-dynamic" else 300e6)


def test_embeddings_of_every_variant_rank_alike(layers: int, exported: fastserve.ExportResult) -> None:
    assert exported.bundle is not None
    for variant in exported.shipped:
        with fastserve.load(exported.bundle, variant=variant) as embed:
            cat, kitten, stocks = embed(["A cat sat down.", "A kitten was sitting.", "Stock prices fell sharply."])
        assert np.linalg.norm(cat) == pytest.approx(1, abs=1e-3)
        assert cat @ kitten > cat @ stocks + (0.3 if layers == WHOLE else 0.1)


def test_verify_and_conform_pass(exported: fastserve.ExportResult) -> None:
    assert exported.bundle is not None
    verification = fastserve.verify(fastserve.open_bundle(exported.bundle))
    assert {v.variant for v in verification.verdicts} == set(exported.shipped)
    assert not verification.failures
    verdicts = fastserve.conform(exported.bundle)
    assert {v.target for v in verdicts} == {"onnx:cpu", "tflite:xnnpack", "executorch:xnnpack"}
    assert [v for v in verdicts if v.outcome.is_failure] == []


def test_cached_export_needs_no_converter_and_gives_the_same_bytes(
    model: Path,
    cache_dir: Path,
    exported: fastserve.ExportResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the converter process was asked to work")

    monkeypatch.setattr(ConverterProcess, "run", refuse)
    bundles = [tmp_path / "first.fsb.zip", tmp_path / "second.fsb.zip"]
    results = [
        fastserve.export(model, b, max_size="30MB", min_quality=0.98, cache_dir=cache_dir, reporter=None)
        for b in bundles
    ]
    assert all(stage.cached for result in results for stage in result.stages)
    assert results[0].digest == exported.digest
    assert bundles[0].read_bytes() == bundles[1].read_bytes()
    with zipfile.ZipFile(bundles[0]) as archive:
        assert {m.compress_type for m in archive.infolist()} == {zipfile.ZIP_STORED}
    with fastserve.load(bundles[0]) as embed:
        assert embed("one text").shape == (384,)
    assert not fastserve.verify(fastserve.open_bundle(bundles[0])).failures


def test_cached_export_imports_no_pytorch(
    model: Path, cache_dir: Path, exported: fastserve.ExportResult, tmp_path: Path
) -> None:
    script = (
        "import sys, fastserve\n"
        "result = fastserve.export(sys.argv[1], sys.argv[2], cache_dir=sys.argv[3])\n"
        "assert result.bundle is not None\n"
        "print([m for m in ('torch', 'transformers', 'datasets', 'onnxruntime') if m in sys.modules])"
    )
    command = [sys.executable, "-c", script, str(model), str(tmp_path / "again.fsb"), str(cache_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_manifest_tells_no_path_host_or_time(model: Path, exported: fastserve.ExportResult) -> None:
    assert exported.bundle is not None
    text = (exported.bundle / "manifest.json").read_text()
    assert str(model) not in text
    assert str(Path.home()) not in text
    manifest = json.loads(text)
    assert manifest["source"]["licence"] == "apache-2.0"
    assert manifest["source"]["name"] == "model"
    onnx = next(v for v in manifest["variants"] if v["format"] == "onnx")
    assert {o["domain"] for o in onnx["operators"]} == {"ai.onnx", "com.microsoft"}
    model = (exported.bundle / onnx["files"][0]).read_bytes()
    assert b"site-packages" not in model
    assert b".py" not in model


def test_inputs_and_outputs_have_the_same_names_in_every_format(exported: fastserve.ExportResult) -> None:
    assert exported.bundle is not None
    bundle = fastserve.open_bundle(exported.bundle)
    signatures = {v.graphs["main"].signature for v in bundle.manifest.variants}
    assert len(signatures) == 1
    signature = signatures.pop()
    assert [t.name for t in signature.inputs] == ["input_ids", "attention_mask"]
    assert [t.name for t in signature.outputs] == ["sentence_embedding"]


def test_pack_gives_plain_files(exported: fastserve.ExportResult, tmp_path: Path) -> None:
    assert exported.bundle is not None
    written = fastserve.pack(exported.bundle, tmp_path / "app", variant="tflite-int8-dynamic")
    assert {f.name for f in written} == {"model.tflite", "tokenizer.json", "README.md"}
    from ai_edge_litert.interpreter import Interpreter

    signature = Interpreter(str(tmp_path / "app" / "model.tflite")).get_signature_list()["serving_default"]
    assert set(signature["inputs"]) == {"input_ids", "attention_mask"}


def test_layer_maps_name_every_layer(
    layers: int, model: Path, cache_dir: Path, exported: fastserve.ExportResult, tmp_path: Path
) -> None:
    fastserve.export(model, tmp_path / "x.fsb", cache_dir=cache_dir, debug_dir=tmp_path / "debug", min_quality=0.98)
    assert (tmp_path / "debug" / "program.pt2").stat().st_size > 0.9 * (model / "model.safetensors").stat().st_size
    for variant in ALL:
        modules = json.loads((tmp_path / "debug" / f"{variant}-layer_map.json").read_text())["modules"]
        for number in range(layers):
            prefix = f"model.encoder.layer.{number}."
            assert any(name.startswith(prefix) and tensors for name, tensors in modules.items()), (variant, number)


def test_nothing_fits_ships_nothing_and_names_what_binds(
    model: Path, cache_dir: Path, exported: fastserve.ExportResult, tmp_path: Path
) -> None:
    location = tmp_path / "none.fsb"
    command = ["export", str(model), "-o", str(location), "--max-size", "1MB", "--cache-dir", str(cache_dir)]
    plain = subprocess.run([sys.executable, "-m", "fastserve", *command], capture_output=True, text=True, check=False)
    assert plain.returncode == 3
    assert "The limit that binds: size ≤ 1.0 MB" in plain.stdout
    assert "onnx-int8-dynamic" in plain.stdout
    document = subprocess.run(
        [sys.executable, "-m", "fastserve", *command, "--json"], capture_output=True, text=True, check=False
    )
    assert document.returncode == 3
    answer = json.loads(document.stdout)
    assert answer["bundle"] is None
    assert answer["binding_limits"] == ["size ≤ 1.0 MB"]
    assert len(answer["nearest_misses"]) == 3
    assert not location.exists()
