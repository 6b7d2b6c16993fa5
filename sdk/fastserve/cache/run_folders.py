"""Folders that belong to one run, for what it has not finished: gone with it, or removed by the next run."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastserve.cache.file_locks import FileLock, new_lock, sole_lock

_LOCK = ".lock"


class RunFolder:
    """A folder of this process alone, made when it is first asked for.

    Beside it lies a file that this process keeps locked, so that others see that it is at work. The folder goes with
    `close`, with this object, or at the end of the process; after a kill the next run takes it away.
    """

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self._path: Path | None = None
        self._close: Callable[[], object] = lambda: None

    def path(self) -> Path:
        """Return the folder.

        Raises:
            OSError: it cannot be made.
        """
        if self._path is None:
            self._parent.mkdir(parents=True, exist_ok=True)
            remove_left_behind(self._parent)
            name = secrets.token_hex(8)
            # Locked before there is a folder, so that nobody ever sees a folder that seems left behind.
            lock = new_lock(self._parent / f"{name}{_LOCK}")
            path = self._parent / name
            self._close = weakref.finalize(self, _remove, path, lock)
            path.mkdir()
            self._path = path
        return self._path

    def new(self) -> Path:
        """Return a new empty folder in it, with the rights that the user gives to new files."""
        folder = self.path() / secrets.token_hex(8)
        folder.mkdir()
        return folder

    def close(self) -> None:
        """Remove the folder and all in it."""
        self._close()
        self._path = None


def remove_left_behind(parent: Path) -> None:
    """Remove the folders of runs that have ended without doing so."""
    for folder in [f for f in parent.iterdir() if f.suffix != _LOCK]:
        file = folder.with_name(f"{folder.name}{_LOCK}")
        try:
            lock = sole_lock(file)
        except FileNotFoundError:
            lock = None  # nobody works without a lock
        except OSError:
            continue  # another user's
        else:
            if lock is None:
                continue
        remove_tree(folder)
        if lock is not None:
            _unlock(file, lock)


def remove_tree(place: Path) -> bool:
    """Remove whatever is at a place, also where its rights were taken away; whether it is gone."""
    with suppress(OSError):
        if place.is_symlink() or not place.is_dir():
            place.unlink(missing_ok=True)
            return True
    shutil.rmtree(place, onerror=_allowed)
    return not place.exists()


def _allowed(retry: Callable[[str], Any], path: str, _: object) -> None:
    """Try again with the owner's rights; what still cannot be removed stays."""
    with suppress(OSError):
        for place in (Path(path).parent, Path(path)):
            mode = place.lstat().st_mode
            if stat.S_ISDIR(mode):
                place.chmod(stat.S_IMODE(mode) | stat.S_IRWXU)
        if retry in {os.unlink, os.rmdir}:
            retry(path)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _remove(path: Path, lock: FileLock) -> None:
    remove_tree(path)
    _unlock(path.with_name(f"{path.name}{_LOCK}"), lock)


def _unlock(file: Path, lock: FileLock) -> None:
    with suppress(OSError):
        file.unlink(missing_ok=True)
    lock.release()
    with suppress(OSError):  # where an open file cannot be removed
        file.unlink(missing_ok=True)
