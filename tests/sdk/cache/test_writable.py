"""A folder that cannot be written is told before anything is done."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

import pytest

from fastserve.cache.writable import check_writable, has_no_room
from fastserve_runtime.errors import EnvironmentFailure


def test_a_folder_that_can_be_written_stays_as_it_is(tmp_path: Path) -> None:
    check_writable(tmp_path, "The folder", "")
    assert list(tmp_path.iterdir()) == []


def test_folders_are_made_where_that_is_asked_for(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b", "The folder", "", make=True)
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("make", [True, False])
def test_what_cannot_be_a_folder_is_named_with_what_to_do(tmp_path: Path, make: bool) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFailure, match=r"The cache folder '.*file/cache' cannot be written") as failure:
        check_writable(tmp_path / "file" / "cache", "The cache folder", "Name another.", make=make)
    assert failure.value.remedy == "Name another."


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "The disk is full"), (errno.EROFS, "Read-only file system")]
)
def test_a_full_disk_is_told_from_one_that_cannot_be_written(tmp_path: Path, monkeypatch, number, words) -> None:
    def fail(**_: object) -> None:
        raise OSError(number, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    with pytest.raises(EnvironmentFailure, match=words):
        check_writable(tmp_path, "The folder", "")


def test_a_disk_with_room_is_told_from_one_without(tmp_path: Path, monkeypatch) -> None:
    assert not has_no_room(tmp_path)
    assert not has_no_room(tmp_path / "missing")
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 4096}))
    assert has_no_room(tmp_path)
