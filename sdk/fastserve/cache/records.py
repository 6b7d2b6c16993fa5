"""What an entry of the cache says of itself, and whether its files are what it says."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastserve.cache.file_digests import files_sha256
from fastserve_runtime.bundle.canonical_json import digest

ENTRY = "entry.json"
_DIGEST = "record_sha256"
_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "key": dict,
    "seconds": (int, float),
    "files": dict,
    "sizes": dict,
}


class DamagedEntry(Exception):
    """An entry is not what was written; the message says what is wrong with it."""


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


def write_record(folder: Path, key: Mapping[str, Any], result: Any, seconds: float) -> None:
    """Write down what is in a folder that is complete, and let all read it whom the folder itself lets in.

    Raises:
        TypeError: the key or the result is no JSON.
    """
    names = sorted(f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file())
    record = {
        "key": dict(key),
        "result": result,
        "seconds": seconds,
        "files": dict(zip(names, files_sha256([folder / n for n in names]), strict=True)),
        "sizes": {n: (folder / n).stat().st_size for n in names},
    }
    # As it will be read: a tuple has become a list by then.
    record = json.loads(json.dumps(record))
    (folder / ENTRY).write_text(json.dumps({**record, _DIGEST: _digest(record)}), encoding="utf-8")
    _share(folder)


def read_record(folder: Path) -> dict[str, Any]:
    """Return an entry's record, which is as it was written.

    Raises:
        DamagedEntry: it is not.
        OSError: it is not there, or cannot be read.
    """
    try:
        record = json.loads((folder / ENTRY).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedEntry(f"its {ENTRY} is no JSON") from error
    if not isinstance(record, dict) or not all(isinstance(record.get(k), t) for k, t in _FIELDS.items()):
        raise DamagedEntry(f"its {ENTRY} lacks a field, or has one of another kind")
    written = record.pop(_DIGEST, None)
    if written != _digest(record):
        raise DamagedEntry(f"its {ENTRY} was altered")
    return record


def check_files(folder: Path, record: Mapping[str, Any]) -> None:
    """Compare the files of an entry with its record, to the last bit.

    Raises:
        DamagedEntry: one was altered, is missing, or came in addition.
        OSError: one cannot be read.
    """
    sizes: Mapping[str, int] = record["sizes"]
    added = _names(folder) - {*sizes, ENTRY}
    if added:
        raise DamagedEntry(f"'{min(added)}' was added to it")
    for name, size in sizes.items():
        found = (folder / name).lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            raise DamagedEntry(f"its file '{name}' has another size, or is no file")
    names = list(record["files"])
    for name, found_digest in zip(names, files_sha256([folder / n for n in names]), strict=True):
        if found_digest != record["files"][name]:
            raise DamagedEntry(f"its file '{name}' was altered")


def entry_of(name: str, folder: Path, record: Mapping[str, Any]) -> Entry:
    """Return the entry that a record tells of.

    Raises:
        DamagedEntry: it tells of another one.
    """
    if digest(record["key"]) != name:
        raise DamagedEntry("it is the record of another entry")
    return Entry(name, folder, record["result"], record["files"], record["seconds"])


def _digest(record: Mapping[str, Any]) -> str:
    try:
        return digest(dict(record))
    except ValueError:  # NaN, which Python's JSON lets in
        return digest(json.dumps(record, sort_keys=True))


def _names(folder: Path) -> set[str]:
    """Return what is in a folder, apart from hidden things, which file systems and desktops leave behind."""
    found = set()
    for place, folders, files in os.walk(folder):
        inside = Path(place).relative_to(folder)
        # A link to a folder counts among the folders, and is not gone into.
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        found |= {(inside / name).as_posix() for name in (*files, *links)}
    return {name for name in found if not any(part.startswith(".") for part in name.split("/"))}


def _share(folder: Path) -> None:
    """Give files the rights that the folder has: libraries that write by way of temporary files keep them private."""
    allowed = stat.S_IMODE(folder.stat().st_mode)
    for item in folder.rglob("*"):
        mode = stat.S_IMODE(item.lstat().st_mode)
        wanted = mode | (allowed & (0o777 if item.is_dir() else 0o666))
        if wanted != mode and not item.is_symlink():
            item.chmod(wanted)
