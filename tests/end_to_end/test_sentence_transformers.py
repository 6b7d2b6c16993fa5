"""Embeddings are those of sentence-transformers itself, whatever its files ask for.

What it gives is recorded; the slow test installs it apart and asks it again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastserve
from fastserve.exporting.length import export_length
from fastserve_converters.checkpoints.model_loading import load_model
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.checkpoints.task import TASKS
from fastserve_converters.checkpoints.tokenizer_loading import TOKENIZER_FILE
from fastserve_converters.data import Sample, Split
from fastserve_converters.inputs import LoadedCheckpoint, tokenizer
from fastserve_converters.models.exportable_model import build_exportable_model
from fastserve_converters.models.reference import OUTPUTS, build_reference, run_original
from fastserve_runtime.preprocessors.text import TextPreprocessor, TokenizerSettings
from sentence_models import MODELS, RECORDED, TEXTS, save_sentence_model

VERSION = "6.2.0"
TOLERANCE = 1e-5
TRUTH = json.loads(RECORDED.read_text())["models"]
TESTS = Path(__file__).parents[1]


def assert_near(found: Any, expected: Any, tolerance: float = TOLERANCE) -> None:
    expected = np.asarray(expected)
    # Relative to the largest number, since joined modes have large ones.
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(1.0, float(np.abs(expected).max())))


def ours(root: Path, out: Path, prompts: tuple[str | None, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the reference's embeddings and the exportable model's, for each prompt, as an export makes them."""
    out.mkdir()
    checkpoint = read_checkpoint(root, allow_pickle=True)
    length = export_length(checkpoint, None, None)
    model = load_model(checkpoint)
    samples = tuple(Sample(text) for text in TEXTS)
    loaded = LoadedCheckpoint(checkpoint, model, length)
    description = build_reference(out, loaded, tokenizer.prepare(Split(samples, samples), loaded, out))
    settings = TokenizerSettings.from_document(description["preprocessing"]["settings"])
    preprocessor = TextPreprocessor((out / TOKENIZER_FILE).read_bytes(), settings)
    inputs = [preprocessor.windows(TEXTS, prompt=prompt).tensors for prompt in prompts]
    task = TASKS.load(checkpoint.task)
    references = [run_original(task, model, checkpoint, own)["sentence_embedding"] for own in inputs]
    with np.load(out / OUTPUTS) as written:
        # The goldens take the prompt that the pipeline takes.
        assert_near(written["sentence_embedding"][: len(TEXTS)], references[0])
    form = build_exportable_model(model, checkpoint, length)
    return [(reference, rows(form, own)) for reference, own in zip(references, inputs, strict=True)]


def rows(form: Any, inputs: dict[str, np.ndarray]) -> np.ndarray:
    tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
    with torch.no_grad():
        found = [
            form(**{n: v[i : i + 1] for n, v in tensors.items()})["sentence_embedding"][0] for i in range(len(TEXTS))
        ]
    return torch.stack(found).numpy()


def test_all_models_are_recorded() -> None:
    assert json.loads(RECORDED.read_text())["sentence-transformers"] == VERSION
    assert list(TRUTH) == list(MODELS)
    assert len(MODELS) >= 30


@pytest.mark.filterwarnings("ignore:.*are cut off")
@pytest.mark.parametrize("name", MODELS)
def test_embeddings_are_those_that_sentence_transformers_gave(name: str, tmp_path: Path) -> None:
    model = save_sentence_model(tmp_path / "model", name)
    found = ours(tmp_path / "model", tmp_path / "out", model.prompts)
    assert len(found) == len(TRUTH[name])
    for (reference, form), expected in zip(found, TRUTH[name], strict=True):
        assert_near(reference, expected)
        assert_near(form, expected)


def exported(name: str, tmp_path: Path, cache_dir: Path, **settings: Any) -> Path:
    save_sentence_model(tmp_path / "model", name)
    result = fastserve.export(
        tmp_path / "model", tmp_path / "out.fsb", allow_pickle=True, cache_dir=cache_dir, keep="all", **settings
    )
    assert result.bundle is not None
    return result.bundle


@pytest.mark.filterwarnings("ignore:.*are cut off")
def test_a_bundle_gives_what_sentence_transformers_gave_with_every_prompt(tmp_path: Path, cache_dir: Path) -> None:
    name = "prompt left out"
    bundle = exported(name, tmp_path, cache_dir, formats=["onnx"], precisions=["fp32"])
    with fastserve.load(bundle) as pipeline:
        for prompt, expected in zip(MODELS[name].prompts, TRUTH[name], strict=True):
            assert_near(pipeline(list(TEXTS), prompt=prompt), expected)
    assert not fastserve.verify(bundle).failures


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*are cut off")
@pytest.mark.parametrize("name", ["all together", "prompt left out of all", "dense, the rest"])
@pytest.mark.parametrize("format_name", ["onnx", "tflite", "executorch"])
def test_every_format_gives_what_sentence_transformers_gave(
    name: str, format_name: str, tmp_path: Path, cache_dir: Path
) -> None:
    bundle = exported(name, tmp_path, cache_dir, formats=[format_name], precisions=["fp32", "int8-dynamic"])
    for variant, tolerance in ((f"{format_name}-fp32", TOLERANCE), (f"{format_name}-int8-dynamic", 0.2)):
        with fastserve.load(bundle, variant=variant) as pipeline:
            for prompt, expected in zip(MODELS[name].prompts, TRUTH[name], strict=True):
                assert_near(pipeline(list(TEXTS), prompt=prompt), expected, tolerance)
    assert not fastserve.verify(bundle).failures


@pytest.mark.slow
def test_sentence_transformers_gives_what_is_recorded(tmp_path: Path) -> None:
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site]
    done = subprocess.run([*command, f"sentence-transformers=={VERSION}"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"sentence-transformers {VERSION} cannot be installed: {done.stderr.strip()[-200:]}")
    paths = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(site), str(TESTS)])
    environment = os.environ | {"PYTHONPATH": paths}
    imported = subprocess.run(
        [sys.executable, "-c", "import sentence_transformers"], capture_output=True, text=True, env=environment
    )
    if imported.returncode:
        pytest.skip(f"sentence-transformers {VERSION} lacks something here: {imported.stderr.strip()[-200:]}")
    command = [sys.executable, TESTS / "sentence_transformers_truth.py", tmp_path / "models"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    asked = json.loads(done.stdout)["models"]
    assert list(asked) == list(TRUTH)
    for name, expected in TRUTH.items():
        for found, recorded in zip(asked[name], expected, strict=True):
            assert_near(found, recorded)
