"""Arm's compiler: which operators it takes, what it reckons, and how a refusal is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fastserve_device_tests.compilers.vela import estimates, operators_of
from fastserve_device_tests.targets import compiler_of, load_target
from fastserve_runtime.bundle.manifest import Variant
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.errors import BundleError, EnvironmentFailure
from manifests import LENGTH
from tflite_bundles import FILE, SIGNATURE, int8_end, text_model, tflite_bundle

TARGET = load_target("tflite:ethos-u55")
runs_here = pytest.mark.skipif(bool(TARGET.needs().missing()), reason="Arm's compiler Vela (make targets) is not there")

SUMMARY = {
    "sram_memory_used": "3.265625", "dram_memory_used": "0.0", "on_chip_flash_memory_used": "0.0",
    "off_chip_flash_memory_used": "2.65625", "cycles_npu": "904", "cycles_total": "2720", "nn_macs": "26624",
    "inferences_per_second": "183823.5",
}  # fmt: skip


def variant_of(bundle: Path) -> Variant:
    with open_bundle(bundle) as source:
        return source.manifest.variants[0]


def test_what_vela_reckons_is_read_in_bytes_and_cycles() -> None:
    found = estimates(SUMMARY)
    assert found["sram_bytes"] == 3344
    assert found["off_chip_flash_bytes"] == 2720
    assert (found["npu_cycles"], found["cycles"], found["macs"]) == (904, 2720, 26624)
    assert found["npu_inferences_per_second"] == pytest.approx(183823.5)


@pytest.mark.parametrize("missing", sorted(SUMMARY))
def test_a_summary_that_lacks_a_figure_is_refused(missing: str) -> None:
    with pytest.raises(EnvironmentFailure, match="summary cannot be read"):
        estimates({name: value for name, value in SUMMARY.items() if name != missing})
    with pytest.raises(EnvironmentFailure, match="summary cannot be read"):
        estimates({**SUMMARY, missing: "many"})


@runs_here
@pytest.mark.parametrize("name", ["tflite:ethos-u55", "tflite:ethos-u85"])
def test_integer_layers_go_to_the_npu_and_floats_stay(tmp_path: Path, name: str) -> None:
    bundle = tflite_bundle(tmp_path / "b.fsb", text_model(int8_end), precision="int8-static")
    out = tmp_path / "out"
    out.mkdir()
    compiled = compiler_of(load_target(name)).compile_model(bundle / FILE, variant_of(bundle), out)
    placed, report = compiled.expected_placement, compiled.report
    before = operators_of(bundle / FILE)
    assert (placed.processor, placed.backend, placed.total) == ("npu", "Ethos-U", sum(before.values()))
    left = report["operators"]["cpu"]
    assert "FULLY_CONNECTED" not in left, "the one integer layer"
    assert {"EMBEDDING_LOOKUP", "QUANTIZE", "DEQUANTIZE", "MUL"} <= set(left)
    assert placed.delegated == placed.total - sum(left.values())
    assert ("ethos-u", "ethos-u", 1) in operators_of(out / "model.tflite")
    assert [f.name for f in out.iterdir()] == ["model.tflite"], "nothing else is left"
    assert report["estimates"]["macs"] > 0
    assert report["bytes"] == (out / "model.tflite").stat().st_size
    assert (compiled.format, compiled.files) == ("tflite", ("model.tflite",))
    json.dumps(compiled.as_document())


@runs_here
def test_a_graph_of_open_length_is_compiled_for_its_full_length(tmp_path: Path) -> None:
    from fastserve_converters.formats.tflite.writing import OPEN

    bundle = tflite_bundle(tmp_path / "b.fsb", text_model(length=OPEN), is_open=True, precision="int8-static")
    out = tmp_path / "out"
    out.mkdir()
    compiled = compiler_of(TARGET).compile_model(bundle / FILE, variant_of(bundle), out)
    (main,) = compiled.graphs.values()
    assert [t.dims for t in main.signature.inputs] == [(1, LENGTH), (1, LENGTH)]
    assert (main.file, main.entry) == ("model.tflite", SIGNATURE)


@runs_here
def test_a_model_that_vela_refuses_is_told_in_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fastserve_device_tests.compilers.vela as module

    monkeypatch.setattr(module, "_CONFIG", "Arm/no_such_file.ini")
    bundle = tflite_bundle(tmp_path / "b.fsb", text_model(int8_end), precision="int8-static")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(BundleError, match=r"Vela cannot compile the model for ethos-u55-256: .*no_such_file"):
        compiler_of(TARGET).compile_model(bundle / FILE, variant_of(bundle), out)
