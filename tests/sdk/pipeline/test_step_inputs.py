"""A step finds the files of its key, and no others."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from fastserve.pipeline.step_inputs import InputFolders, StepInputs, user_inputs
from fastserve_runtime.errors import UsageError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "1_Pooling" / "config.json").write_text("[]")
    (folder / "secret.bin").write_bytes(b"x")
    return folder


@pytest.fixture
def inputs(root: Path) -> StepInputs:
    return user_inputs(root, [root / "config.json", root / "1_Pooling" / "config.json"])


@pytest.fixture
def new_folder(tmp_path: Path) -> Callable[[], Path]:
    numbers = count()

    def make() -> Path:
        folder = tmp_path / f"made-{next(numbers)}"
        folder.mkdir()
        return folder

    return make


def test_a_step_sees_the_files_of_its_key_alone(inputs: StepInputs, new_folder: Callable[[], Path]) -> None:
    folder = InputFolders(new_folder).folder(inputs)
    assert folder.name == "model"
    assert sorted(f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()) == sorted(inputs.digests)
    assert (folder / "1_Pooling" / "config.json").read_text() == "[]"
    assert not (folder / "secret.bin").exists()


def test_equal_files_are_in_one_folder(root: Path, inputs: StepInputs, new_folder: Callable[[], Path]) -> None:
    folders = InputFolders(new_folder)
    again = user_inputs(root, [root / "1_Pooling" / "config.json", root / "config.json"])
    assert again.digest == inputs.digest
    assert folders.folder(inputs) == folders.folder(again)
    (root / "config.json").write_text("{ }")
    changed = user_inputs(root, [root / "config.json"])
    assert changed.digest != inputs.digest
    assert folders.folder(changed) != folders.folder(inputs)


def test_where_links_cannot_be_made_files_are_copied(
    inputs: StepInputs, new_folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(Path, "symlink_to", refuse)
    monkeypatch.setattr(os, "link", refuse)
    folder = InputFolders(new_folder).folder(inputs)
    assert (folder / "config.json").read_text() == "{}"
    assert not (folder / "config.json").is_symlink()


def test_a_file_that_changes_meanwhile_is_told(root: Path, inputs: StepInputs) -> None:
    inputs.check_unchanged()
    (root / "config.json").write_text('{"a": 1}')
    with pytest.raises(UsageError, match=r"config\.json' changed"):
        inputs.check_unchanged()


def test_a_file_that_goes_meanwhile_is_told(root: Path, inputs: StepInputs) -> None:
    (root / "config.json").unlink()
    with pytest.raises(UsageError, match=r"config\.json' changed"):
        inputs.check_unchanged()
