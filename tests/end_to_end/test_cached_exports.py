"""An export takes finished steps from the cache only where they are what was made, from the files that are there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import fastserve
from checkpoints import save_checkpoint
from fastserve.cache.cache import Cache


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("models") / "model", sentence=True, layers=1)


@pytest.fixture(scope="module")
def first(model: Path, tmp_path_factory: pytest.TempPathFactory) -> fastserve.ExportResult:
    return export(model, tmp_path_factory.mktemp("first") / "model.fsb", tmp_path_factory.mktemp("cache"))


def export(model: Path, output: Path, cache_dir: Path) -> fastserve.ExportResult:
    return fastserve.export(
        model, output, formats=["onnx"], precisions=["fp32"], sequence_length=16, cache_dir=cache_dir, force=True
    )


def made_again(result: fastserve.ExportResult) -> set[str]:
    return {s.stage for s in result.stages if not s.cached}


def cache_of(result: fastserve.ExportResult) -> Path:
    return result.reference.parents[2]


def damage(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def test_an_export_from_the_cache_does_nothing_again_and_leaves_nothing_behind(
    first: fastserve.ExportResult, model: Path, tmp_path: Path
) -> None:
    again = export(model, tmp_path / "model.fsb", cache_of(first))
    assert made_again(again) == set()
    assert again.digest == first.digest
    assert list((cache_of(first) / "unfinished").iterdir()) == []


def test_what_was_damaged_in_the_cache_is_made_again_and_never_shipped(
    first: fastserve.ExportResult, model: Path, tmp_path: Path
) -> None:
    with Cache(cache_of(first)) as cache:
        entries = [folder for _, folder in cache.entry_folders()]
    stages = {folder.parents[1].name for folder in entries}
    assert stages == {"reference", "program", "artifact", "measurement", "quality"}
    for folder in entries:
        # The largest of each: model.onnx, the arrays, or the record where there is nothing else.
        file = max((f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
        file.write_bytes(damage(file.read_bytes()))
    again = export(model, tmp_path / "model.fsb", cache_of(first))
    assert len(made_again(again)) == len(again.stages)
    assert again.digest == first.digest
    assert all(v.outcome.name == "PASS" for v in fastserve.verify(tmp_path / "model.fsb").verdicts)


def test_whatever_file_of_the_model_changes_its_steps_are_done_again(
    first: fastserve.ExportResult, model: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(model, tmp_path / "of-another-name")
    (copy / "README.md").write_text("A model card is not read by any step.")
    assert made_again(export(copy, tmp_path / "a.fsb", cache_of(first))) == set()
    (copy / "chat_template.jinja").write_text("{{ messages }}")
    assert "Reference outputs" in made_again(export(copy, tmp_path / "b.fsb", cache_of(first)))
