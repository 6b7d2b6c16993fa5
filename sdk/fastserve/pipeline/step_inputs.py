"""What a step may read: files with their digests, which are in the step's key.

A step in another process gets folders that hold links to these files and to nothing else. Whatever reads there, in
Python, Rust or C++, by name or by listing the folder, finds no file that the key leaves out: one that was forgotten is
missing, loudly, and never read without being in the key.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fastserve.cache.file_digests import files_sha256
from fastserve.cache.records import Entry
from fastserve_runtime.bundle.canonical_json import digest
from fastserve_runtime.errors import UsageError

Stamp = tuple[int, int, int]
"""Size, time of the last change, and number of a file: while all are the same, so is the content."""


@dataclass(frozen=True)
class StepInputs:
    """Files that a step reads from one folder.

    Attributes:
        name: the folder's name, which is not part of the key.
        files: name in the folder → where the file really is.
        digests: name → SHA-256 of its content.
        stamps: name → what it looked like then, of files that others may change.
    """

    name: str
    files: Mapping[str, Path]
    digests: Mapping[str, str]
    stamps: Mapping[str, Stamp]

    @property
    def digest(self) -> str:
        """One digest over names and contents."""
        return digest(dict(self.digests))

    def check_unchanged(self) -> None:
        """Refuse what became of files that changed since their digests were taken.

        Raises:
            UsageError: one did.
        """
        for name, stamp in self.stamps.items():
            if _stamp(self.files[name]) != stamp:
                raise UsageError(
                    f"The file '{self.files[name]}' changed while it was being read.",
                    "Start again when nothing writes to it.",
                )


def entry_inputs(entry: Entry, names: Sequence[str] | None = None) -> StepInputs:
    """Return files of a finished step, all if no names are given. Its digests have been checked."""
    wanted = list(entry.files) if names is None else list(names)
    return StepInputs("files", {n: entry.folder / n for n in wanted}, {n: entry.files[n] for n in wanted}, stamps={})


def user_inputs(root: Path, files: Sequence[Path]) -> StepInputs:
    """Take the digests of a user's files.

    Args:
        root: the folder that they lie in, at any depth.
        files: which.
    """
    names = [f.relative_to(root).as_posix() for f in files]
    stamps = {n: s for n, f in zip(names, files, strict=True) if (s := _stamp(f)) is not None}
    return StepInputs(
        root.resolve().name or "files",
        dict(zip(names, files, strict=True)),
        dict(zip(names, files_sha256(files), strict=True)),
        stamps,
    )


class InputFolders:
    """Makes the folders that steps read, each once: equal files are in the same folder."""

    def __init__(self, new_folder: Callable[[], Path]) -> None:
        """Make nothing yet.

        Args:
            new_folder: gives an empty folder.
        """
        self._new_folder = new_folder
        self._made: dict[tuple[str, str], Path] = {}

    def folder(self, inputs: StepInputs) -> Path:
        """Return a folder that holds these files and no others."""
        key = inputs.name, inputs.digest
        if key not in self._made:
            folder = self._new_folder() / inputs.name
            folder.mkdir()
            for name, file in inputs.files.items():
                place = folder / name
                place.parent.mkdir(parents=True, exist_ok=True)
                _link(file.absolute(), place)
            self._made[key] = folder
        return self._made[key]


def _link(file: Path, place: Path) -> None:
    with suppress(OSError, NotImplementedError):  # Windows lets few users make symbolic links
        place.symlink_to(file)
        return
    with suppress(OSError):
        os.link(file, place)
        return
    shutil.copyfile(file, place)


def _stamp(file: Path) -> Stamp | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino
