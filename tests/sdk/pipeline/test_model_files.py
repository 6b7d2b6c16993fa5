"""Whatever works on a model in another process finds its listed files, and is told where it really is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fastserve.cache.run_folders import RunFolder
from fastserve.pipeline.model_files import ModelFiles, described_source
from fastserve.pipeline.step_inputs import InputFolders
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.models.checkpoint_source import checkpoint_of, source_of
from fastserve_runtime.errors import UsageError


@pytest.fixture
def model(tiny_bert: Path, tmp_path: Path) -> Path:
    folder = shutil.copytree(tiny_bert, tmp_path / "model")
    (folder / "notes.onnx").write_bytes(b"of another library")
    return folder


@pytest.fixture
def files(model: Path, tmp_path: Path) -> ModelFiles:
    return ModelFiles(read_checkpoint(model), InputFolders(RunFolder(tmp_path / "unfinished").new))


def source(model: Path) -> dict[str, object]:
    return source_of(read_checkpoint(model), 16, allow_pickle=False, trust_remote_code=False)


def test_a_job_reads_the_listed_files_alone(model: Path, files: ModelFiles) -> None:
    with files.lent(source(model)) as lent:
        folder = Path(lent["path"])
        assert checkpoint_of(lent).task == "feature-extraction"
        assert (folder / "1_Pooling" / "config.json").is_file()
        assert not (folder / "notes.onnx").exists()
    assert described_source(lent) == described_source(source(model))


def test_errors_name_the_folder_that_the_user_named(model: Path, files: ModelFiles) -> None:
    with pytest.raises(UsageError) as caught, files.lent(source(model)) as lent:
        raise UsageError(f"'{lent['path']}' is odd.", f"Look into {lent['path']}.")
    assert caught.value.problem == f"'{model}' is odd."
    assert caught.value.remedy == f"Look into {model}."


def test_a_file_that_changes_while_it_is_lent_is_told(model: Path, files: ModelFiles) -> None:
    with pytest.raises(UsageError, match=r"config\.json' changed"), files.lent(source(model)):
        (model / "config.json").write_text("{}")


def test_the_digest_is_that_of_the_listed_files(model: Path, files: ModelFiles, tmp_path: Path) -> None:
    def digest() -> str:
        return ModelFiles(read_checkpoint(model), InputFolders(RunFolder(tmp_path / "unfinished").new)).digest

    (model / "notes.onnx").write_bytes(b"other")
    assert digest() == files.digest
    (model / "tokenizer_config.json").write_text("{}")
    assert digest() != files.digest
