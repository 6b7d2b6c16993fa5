"""Exports with passes: what they write, what is proven against it, what is judged against the original."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import fastserve
from command_line import FASTSERVE
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.conformance.quality import Quality

OPTIONS: dict[str, Any] = {"formats": ["onnx"], "precisions": ["fp32"], "sequence_length": 16}


def quality_of(result: fastserve.ExportResult) -> Quality:
    (candidate,) = result.candidates
    assert candidate.quality is not None
    return candidate.quality


@pytest.fixture(scope="module")
def plain(tiny_bert: Path, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> fastserve.ExportResult:
    output = tmp_path_factory.mktemp("plain") / "plain.fsb"
    return fastserve.export(tiny_bert, output, cache_dir=cache_dir, **OPTIONS)


@pytest.fixture(scope="module")
def dropped(tiny_bert: Path, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> fastserve.ExportResult:
    output = tmp_path_factory.mktemp("dropped") / "dropped.fsb"
    return fastserve.export(tiny_bert, output, cache_dir=cache_dir, passes=["drop-layers:keep=1"], **OPTIONS)


def test_quality_is_judged_against_the_original_and_the_artifact_proven_against_its_own_checkpoint(
    plain: fastserve.ExportResult, dropped: fastserve.ExportResult
) -> None:
    assert quality_of(plain).value == pytest.approx(1, abs=1e-3)
    # Half of a random model computes something else.
    assert quality_of(dropped).value < 0.9
    assert dropped.bundle is not None
    checked = fastserve.verify(dropped.bundle)
    assert checked.has_run
    assert not checked.failures


def test_the_manifest_and_the_ids_say_which_passes(dropped: fastserve.ExportResult) -> None:
    assert dropped.shipped == ("onnx-fp32-after-drop-layers-keep-1",)
    assert dropped.bundle is not None
    with open_bundle(dropped.bundle) as bundle:
        (variant,) = bundle.manifest.variants
        assert variant.id == "onnx-fp32-after-drop-layers-keep-1"
        assert variant.recipe["passes"] == [{"name": "drop-layers", "settings": {"keep": 1}}]
    assert "drop-layers kept 1 of 2 layers: 1." in dropped.notes


def test_the_same_again_is_served_from_the_cache(
    tiny_bert: Path, cache_dir: Path, tmp_path: Path, dropped: fastserve.ExportResult
) -> None:
    words = ["-o", tmp_path / "again.fsb", "--format", "onnx", "--precision", "fp32", "--seq-len", "16", "--json"]
    words += ["--pass", "drop-layers:keep=1", "--cache-dir", cache_dir]
    done = subprocess.run(
        [*FASTSERVE, "export", str(tiny_bert), *map(str, words)], capture_output=True, text=True, check=True
    )
    document = json.loads(done.stdout)
    assert {stage["stage"] for stage in document["stages"]} >= {"Pass drop-layers:keep=1", "Reference outputs"}
    assert all(stage["cached"] for stage in document["stages"])
    assert document["digest"] == dropped.digest


@pytest.mark.filterwarnings("ignore:.*are cut off")
def test_a_trimmed_vocabulary_changes_nothing_for_texts_of_its_pieces(
    tiny_bert: Path, plain: fastserve.ExportResult, tmp_path: Path
) -> None:
    """Words of the data come again and again, so what quality is judged on has no others than what the pass sees."""
    words = ["river", "bank", "the", "old", "boat", "drifts", "slowly", "towards", "a", "harbour"]
    drawn = random.Random(0)
    lines = [" ".join(drawn.choices(words, k=8)) for _ in range(60)]
    data = tmp_path / "lines.txt"
    data.write_text("\n".join(lines), encoding="utf-8")
    own = tmp_path / "cache"
    options = {**OPTIONS, "data": [data]}
    result = fastserve.export(
        tiny_bert, tmp_path / "t.fsb", cache_dir=own, passes=["trim-vocabulary:characters=used"], **options
    )
    assert quality_of(result).value == pytest.approx(1, abs=1e-4)
    assert result.shipped == ("onnx-fp32-after-trim-vocabulary-characters-used",)
    (made,) = own.glob("pass/*/*/checkpoint")
    tokenizers = [transformers.AutoTokenizer.from_pretrained(folder) for folder in (made, tiny_bert)]
    models = [transformers.AutoModel.from_pretrained(folder).eval() for folder in (made, tiny_bert)]
    assert len(tokenizers[0]) < len(tokenizers[1]) / 4
    with torch.inference_mode():
        ours, theirs = (
            model(**tokenizer(lines, padding=True, return_tensors="pt")).last_hidden_state
            for model, tokenizer in zip(models, tokenizers, strict=True)
        )
    assert torch.equal(ours, theirs)
    assert result.bundle is not None
    pipeline = fastserve.load(result.bundle)
    assert plain.bundle is not None
    np.testing.assert_allclose(pipeline(lines[:4]), fastserve.load(plain.bundle)(lines[:4]), atol=1e-4)


def test_passes_follow_each_other(tiny_bert: Path, cache_dir: Path, tmp_path: Path, dropped: Any) -> None:
    result = fastserve.export(
        tiny_bert,
        tmp_path / "both.fsb",
        cache_dir=cache_dir,
        passes=["drop-layers:keep=1", "trim-vocabulary:characters=used"],
        **OPTIONS,
    )
    assert result.shipped == ("onnx-fp32-after-drop-layers-keep-1-after-trim-vocabulary-characters-used",)
    cached = {stage.stage: stage.cached for stage in result.stages}
    assert cached["Pass drop-layers:keep=1"]
    assert not cached["Pass trim-vocabulary:characters=used"]
    (candidate,) = result.candidates
    assert candidate.size is not None
    assert candidate.size < dropped.candidates[0].size
    assert any(note.startswith("trim-vocabulary kept") for note in result.notes)
    assert result.bundle is not None
    assert not fastserve.verify(result.bundle).failures


def test_bisect_refuses_what_it_cannot_compare_with(tiny_bert: Path, dropped: fastserve.ExportResult) -> None:
    assert dropped.bundle is not None
    with pytest.raises(fastserve.UsageError, match=r"was made after passes \(drop-layers:keep=1\)"):
        fastserve.bisect(dropped.bundle, reference=tiny_bert)


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("drop-layer:keep=1", "There is no pass 'drop-layer'. Did you mean 'drop-layers'?"),
        ("drop-layers:keep=3", "was to keep 3 layers, and the model has 2"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_loaded(
    tiny_bert: Path, tmp_path: Path, word: str, problem: str
) -> None:
    with pytest.raises(fastserve.UsageError) as refusal:
        fastserve.export(tiny_bert, tmp_path / "none.fsb", cache_dir=tmp_path / "cache", passes=[word], **OPTIONS)
    assert problem in str(refusal.value)
    assert not any((tmp_path / "cache").glob("*/??/*"))
