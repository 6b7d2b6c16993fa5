"""Finished work, kept by what it was made from.

An entry is a folder named by the digest of its key: everything that decides the result. It is written under another
name and renamed when complete, so that a killed run leaves nothing half-done and the next one goes on from here. Before
an entry is used, its files are compared with the digests that were taken when it was made: what ships is what was
measured.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastserve.cache.file_locks import FileLock, shared_lock, sole_lock
from fastserve.cache.records import ENTRY, DamagedEntry, Entry, check_files, entry_of, read_record, write_record
from fastserve.cache.run_folders import RunFolder, remove_tree
from fastserve_runtime.bundle.canonical_json import digest
from fastserve_runtime.closing import ClosedAtEnd

_UNFINISHED = "unfinished"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ATTEMPTS = 3

__all__ = ["Cache", "Entry"]


class Cache(ClosedAtEnd):
    """A folder of entries. May be used by several processes at once.

    Entries that were found or made stay locked until `close`, so that nobody prunes them meanwhile. `close` also
    removes what this run kept for itself alone.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.run_folder = RunFolder(self.root / _UNFINISHED)
        self._known: dict[Path, Entry] = {}
        self._locks: dict[Path, FileLock] = {}

    def close(self) -> None:
        """Let others remove what was in use, and remove this run's own folder."""
        self._known.clear()
        while self._locks:
            self._locks.popitem()[1].release()
        self.run_folder.close()

    def find(self, stage: str, key: Mapping[str, Any]) -> Entry | None:
        """Return the entry of a stage and key, or None. A damaged entry is removed and counts as none.

        Every file of it is read once in the life of this object.
        """
        name = digest(dict(key))
        folder = self._folder(stage, name)
        if folder in self._known:
            return self._known[folder]
        # Asked first: where there is none now, another process may put a whole one in the next moment.
        if not os.path.lexists(folder):
            return None
        try:
            entry = self._whole(name, folder)
        except (DamagedEntry, OSError):
            self._discard(folder)
            return None
        if entry is not None:
            self._known[folder] = entry
        return entry

    def make(self, stage: str, key: Mapping[str, Any], build: Callable[[Path], Any]) -> Entry:
        """Build an entry and keep it.

        Args:
            stage: kind of work; a folder of the cache.
            key: everything that decides the result, JSON.
            build: writes files into the empty folder that it gets, and returns the result, JSON.
        """
        folder = self.run_folder.new()
        try:
            started = time.perf_counter()
            result = build(folder)
            write_record(folder, key, result, time.perf_counter() - started)
        except BaseException:
            remove_tree(folder)
            raise
        return self._keep(stage, key, folder)

    def remove(self, stage: str, key: Mapping[str, Any]) -> None:
        """Forget an entry; what another run is using stays there for it."""
        self._discard(self._folder(stage, digest(dict(key))))

    def entry_folders(self) -> Iterator[tuple[str, Path]]:
        """Yield stage and folder of every entry, damaged ones too, and of nothing else that may be there."""
        for stage in _folders(self.root):
            for start in _folders(stage):
                for folder in _folders(start):
                    if _DIGEST.fullmatch(folder.name) and folder.name.startswith(start.name):
                        yield stage.name, folder

    def discard(self, folder: Path) -> bool:
        """Remove an entry unless another run uses it; whether it is gone."""
        return self._discard(folder)

    def _keep(self, stage: str, key: Mapping[str, Any], made: Path) -> Entry:
        """Put a finished folder in its place, unless another process has made the same meanwhile."""
        name = digest(dict(key))
        target = self._folder(stage, name)
        for _ in range(_ATTEMPTS):
            _make_folders(self.root, target.parent)
            with suppress(OSError):
                made.replace(target)
                entry = self._whole(name, target, is_checked=True)
                if entry is not None:
                    self._known[target] = entry
                    return entry
            # Somebody else has it there and may be reading it, so it stays unless it is damaged.
            found = self.find(stage, key)
            if found is not None:
                remove_tree(made)
                return found
        # What is there is damaged or being removed, and in use or not ours: this run keeps its own until its end.
        self._known[target] = entry_of(name, made, read_record(made))
        return self._known[target]

    def _whole(self, name: str, folder: Path, *, is_checked: bool = False) -> Entry | None:
        """Return an entry and keep it locked; None where it is being removed.

        Raises:
            DamagedEntry: it is not what was written.
            OSError: it cannot be read.
        """
        if folder.is_symlink() or not stat.S_ISREG((folder / ENTRY).lstat().st_mode):
            raise DamagedEntry(f"it is a link, or its {ENTRY} is no file")
        lock = shared_lock(folder / ENTRY)
        if lock is None:
            return None
        try:
            record = read_record(folder)
            entry = entry_of(name, folder, record)
            if not is_checked:
                check_files(folder, record)
            with suppress(OSError):  # a cache that may only be read
                os.utime(folder / ENTRY)
        except BaseException:
            lock.release()
            raise
        self._locks[folder] = lock
        return entry

    def _discard(self, folder: Path) -> bool:
        self._known.pop(folder, None)
        if folder in self._locks:
            self._locks.pop(folder).release()
        if not os.path.lexists(folder):
            return True
        lock: FileLock | None = None
        try:
            lock = sole_lock(folder / ENTRY)
            if lock is None:
                return False
        except OSError:
            pass  # without a record nobody uses it
        try:
            # Renamed first, so that nobody finds half of it.
            with suppress(OSError):
                _lend_rights(folder)
                aside = self.run_folder.path() / f"removed-{folder.name}"
                remove_tree(aside)
                folder.replace(aside)
                folder = aside
            return remove_tree(folder)
        finally:
            if lock is not None:
                lock.release()

    def _folder(self, stage: str, name: str) -> Path:
        return self.root / stage / name[:2] / name


def _folders(parent: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(f for f in parent.iterdir() if f.is_dir())
    return []


def _make_folders(root: Path, folder: Path) -> None:
    """Make a folder of the cache and those above it, in place of files that have come there."""
    root.mkdir(parents=True, exist_ok=True)
    place = root
    for part in folder.relative_to(root).parts:
        place /= part
        if os.path.lexists(place) and not place.is_dir():
            place.unlink()
        place.mkdir(exist_ok=True)


def _lend_rights(folder: Path) -> None:
    """Let the owner move a folder whose rights were taken away."""
    if not folder.is_symlink() and folder.is_dir() and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        folder.chmod(0o700)
