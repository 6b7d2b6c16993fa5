"""Inputs that nobody means: odd values, shapes, types and layouts are refused or computed, and end no process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FILES = {"onnxruntime": "model.onnx", "litert": "model.tflite", "executorch": "model.pte"}
SCRIPT = Path(__file__).with_name("odd_inputs.py")


def tried(engine: str, file: Path, seed: int, count: int) -> dict[str, int]:
    command = [sys.executable, str(SCRIPT), engine, str(file), str(seed), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"ended with {done.returncode}: {done.stderr[-3000:]}"
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    assert sum(found.values()) == count
    return found


@pytest.mark.parametrize("engine", FILES)
def test_three_hundred_inputs_of_each_engine(engine: str, score_models: Path) -> None:
    found = tried(engine, score_models / FILES[engine], 300, 300)
    assert found["refused"] > 10
    assert found["ran"] > 10


def test_three_hundred_inputs_of_a_decoder(decoder_file: Path) -> None:
    assert tried("onnxruntime", decoder_file, 1, 300)["refused"] > 10


@pytest.mark.slow
@pytest.mark.parametrize("engine", FILES)
@pytest.mark.parametrize("seed", range(5))
def test_many_inputs_of_each_engine(engine: str, seed: int, score_models: Path) -> None:
    tried(engine, score_models / FILES[engine], seed, 4000)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_many_inputs_of_a_decoder(seed: int, decoder_file: Path) -> None:
    tried("onnxruntime", decoder_file, 100 + seed, 2000)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tflite", "executorch"])
def test_many_inputs_of_decoders_with_tables_of_four_bits(kind: str, decoder_form, tmp_path: Path) -> None:
    from importlib import import_module

    from fastserve_converters.formats import ExportJob
    from fastserve_converters.models.cached_part import CachedPart
    from fastserve_converters.quantization.layers import assignment, quantized_weights

    decoder = import_module(f"fastserve_converters.formats.{kind}.decoder")
    precision_spec = decoder.PRECISIONS["int4"]
    part = CachedPart(decoder_form)
    weights = quantized_weights(part, assignment(part, precision_spec))
    prompts = {"beginning": 1, "ends": (2,)}
    decoder.export(ExportJob(part, "int4", precision_spec, weights, {}, {}, None, tmp_path, prompts=prompts))
    (file,) = [f for f in tmp_path.iterdir() if f.suffix in {".tflite", ".pte"}]
    tried({"tflite": "litert"}.get(kind, kind), file, 7, 2000)
