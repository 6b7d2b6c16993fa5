"""Finished work, kept by what it was made from.

An entry is a folder named by the digest of its key: everything that decides the result. It is written under another
name and renamed when complete, so that a killed run leaves nothing half-done and the next one goes on from here.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastserve_converters.checkpoint import file_sha256
from fastserve_runtime.canonical_json import digest

ENTRY = "entry.json"
_SCRATCH = "unfinished"
_STALE_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Entry:
    """A finished stage.

    Attributes:
        key: digest of what it was made from.
        folder: where its files are.
        result: what the stage returned, JSON.
        files: name → SHA-256 of every file.
        seconds: how long it took when it was made.
    """

    key: str
    folder: Path
    result: Any
    files: Mapping[str, str]
    seconds: float


class Cache:
    """A folder of entries. May be used by several processes at once."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def find(self, stage: str, key: Mapping[str, Any]) -> Entry | None:
        """Return the entry of a stage and key, or None. A damaged entry is removed and counts as none."""
        name = digest(dict(key))
        folder = self._folder(stage, name)
        # Asked first: where there is none now, another process may put a whole one in the next moment.
        if not folder.exists():
            return None
        try:
            record = json.loads((folder / ENTRY).read_text())
            entry = Entry(name, folder, record["result"], record["files"], record["seconds"])
            sizes = record["sizes"]
            is_whole = all((folder / f).stat().st_size == size for f, size in sizes.items())
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            is_whole = False
        if not is_whole:
            shutil.rmtree(folder, ignore_errors=True)
            return None
        return entry

    def make(self, stage: str, key: Mapping[str, Any], build: Callable[[Path], Any]) -> Entry:
        """Build an entry and keep it.

        Args:
            stage: kind of work; a folder of the cache.
            key: everything that decides the result, JSON.
            build: writes files into the empty folder that it gets, and returns the result, JSON.
        """
        name = digest(dict(key))
        scratch = self.root / _SCRATCH
        scratch.mkdir(parents=True, exist_ok=True)
        self._remove_stale(scratch)
        folder = Path(tempfile.mkdtemp(dir=scratch))
        try:
            started = time.perf_counter()
            result = build(folder)
            seconds = time.perf_counter() - started
            files = sorted(f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file())
            record = {
                "key": dict(key),
                "result": result,
                "seconds": seconds,
                "files": {f: file_sha256(folder / f) for f in files},
                "sizes": {f: (folder / f).stat().st_size for f in files},
            }
            (folder / ENTRY).write_text(json.dumps(record))
            target = self._folder(stage, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                folder.replace(target)
            except OSError:
                # Another process has made the same meanwhile and may be reading it, so it stays unless it is damaged.
                made = self.find(stage, key)
                if made is not None:
                    return made
                folder.replace(target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return Entry(name, target, result, record["files"], seconds)

    def remove(self, stage: str, key: Mapping[str, Any]) -> None:
        """Forget an entry."""
        shutil.rmtree(self._folder(stage, digest(dict(key))), ignore_errors=True)

    def _folder(self, stage: str, name: str) -> Path:
        return self.root / stage / name[:2] / name

    def _remove_stale(self, scratch: Path) -> None:
        """Remove what killed runs left; younger folders may belong to a run that is still going."""
        for folder in scratch.iterdir():
            with suppress(FileNotFoundError):  # another process has just finished it
                if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)
