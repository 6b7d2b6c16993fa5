"""Whatever works on a model in another process finds its listed files, and is told where it really is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from fastserve.cache.run_folders import RunFolder
from fastserve.pipeline.step_inputs import InputFolders
from fastserve.pipeline.subject import ModelSubject, checkpoint_subject
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.models.checkpoint_source import checkpoint_of
from fastserve_runtime.errors import UsageError


@pytest.fixture
def model(tiny_bert: Path, tmp_path: Path) -> Path:
    folder = shutil.copytree(tiny_bert, tmp_path / "model")
    (folder / "notes.onnx").write_bytes(b"of another library")
    return folder


@pytest.fixture
def subject(model: Path) -> ModelSubject:
    return checkpoint_subject(read_checkpoint(model), 16)


@pytest.fixture
def folders(tmp_path: Path) -> InputFolders:
    return InputFolders(RunFolder(tmp_path / "unfinished").new)


def test_a_job_reads_the_listed_files_alone(model: Path, subject: ModelSubject, folders: InputFolders) -> None:
    with subject.lent(folders) as lent:
        folder = Path(lent["path"])
        assert checkpoint_of(lent).task == "feature-extraction"
        assert (folder / "1_Pooling" / "config.json").is_file()
        assert not (folder / "notes.onnx").exists()
    assert lent["length"] == 16


def test_errors_name_the_folder_that_the_user_named(model: Path, subject: ModelSubject, folders: InputFolders) -> None:
    with pytest.raises(UsageError) as caught, subject.lent(folders) as lent:
        raise UsageError(f"'{lent['path']}' is odd.", f"Look into {lent['path']}.")
    assert caught.value.problem == f"'{model}' is odd."
    assert caught.value.remedy == f"Look into {model}."


def test_a_file_that_changes_while_it_is_lent_is_told(
    model: Path, subject: ModelSubject, folders: InputFolders
) -> None:
    with pytest.raises(UsageError, match=r"config\.json' changed"), subject.lent(folders):
        (model / "config.json").write_text("{}")


def test_the_key_is_that_of_the_listed_files_and_not_of_their_place(model: Path, tmp_path: Path) -> None:
    def key(folder: Path, length: int = 16) -> dict[str, Any]:
        return checkpoint_subject(read_checkpoint(folder), length).key()

    first = key(model)
    (model / "notes.onnx").write_bytes(b"other")
    assert key(model) == first == key(shutil.copytree(model, tmp_path / "moved"))
    assert key(model, 8) != first
    (model / "tokenizer_config.json").write_text("{}")
    assert key(model) != first
