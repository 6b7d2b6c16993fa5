"""Writing a bundle: a directory or one zip file, complete or not at all."""

from __future__ import annotations

import glob
import json
import os
import shutil
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastserve_converters.checkpoints.checkpoint import file_sha256
from fastserve_runtime.bundle.canonical_json import canonical_json, digest
from fastserve_runtime.bundle.manifest import parse_manifest
from fastserve_runtime.bundle.reader import EVIDENCE, MANIFEST, MANIFEST_LIMIT, evidence_folder, open_storage
from fastserve_runtime.errors import BundleError, EnvironmentFailure, UsageError

ZIP_SUFFIX = ".zip"
ALIGNMENT = 16 * 1024
"""Bytes: the largest page size of today's phones (Android 15 on 16 KiB pages), so that members can be mapped."""

_ALIGNMENT_FIELD = 0xD935
"""Id of the zip extra field that Android's zipalign pads with."""
_FIXED_TIME = (1980, 1, 1, 0, 0, 0)
_REGULAR_FILE = 0o100644 << 16


@dataclass(frozen=True)
class BundleFile:
    """A file that goes into a bundle.

    Attributes:
        path: its path there.
        role: what it is for.
        source: where its content comes from.
        sha256: what the content must be, where something rests on it, such as a measurement.
    """

    path: str
    role: str
    source: Path | bytes
    sha256: str | None = None


def write_bundle(
    location: Path,
    manifest: Mapping[str, Any],
    files: list[BundleFile],
    evidence: Mapping[str, Mapping[str, Any]],
    *,
    force: bool,
) -> str:
    """Write a bundle under a temporary name beside its place and rename it.

    Args:
        location: a path ending in `.zip` gives one file, any other a directory.
        manifest: the document without `files`, which is filled in here.
        files: everything the manifest will list.
        evidence: file name → document; each gets the manifest's digest.
        force: replace what is there.

    Returns:
        The bundle's id: the digest of its manifest.

    Raises:
        UsageError: something is at that place and `force` is not set.
        EnvironmentFailure: a file is not the one that was measured.
    """
    check_free(location, force=force)
    with _unfinished(location) as folder:
        entries = {f.path: _place(folder, f) for f in sorted(files, key=lambda f: f.path)}
        document = {**manifest, "files": entries}
        parse_manifest(document)
        (folder / MANIFEST).write_bytes(canonical_json(document))
        identifier = digest(document)
        documents = {name: {"manifest": identifier, **value} for name, value in evidence.items()}
        if location.name.endswith(ZIP_SUFFIX):
            packed = folder.with_name(f"{folder.name}{ZIP_SUFFIX}")
            try:
                write_zip(packed, folder)
                _replace(location, packed)
            finally:
                packed.unlink(missing_ok=True)
            beside = evidence_folder(location)
            shutil.rmtree(beside, ignore_errors=True)
            _write_evidence(beside, documents)
        else:
            _write_evidence(folder / EVIDENCE, documents)
            _replace(location, folder)
    return identifier


def check_free(location: Path, *, force: bool) -> None:
    """Refuse a place where something is that must not be lost.

    Raises:
        UsageError: something is there and `force` is not set, it is no bundle, or the folder does not exist.
    """
    if not location.absolute().parent.is_dir():
        raise UsageError(f"The folder '{location.absolute().parent}' does not exist.", "Make it, or name another.")
    if not (location.exists() or location.is_symlink()):
        return
    if not force:
        raise UsageError(f"'{location}' exists already.", "Choose another name, or replace it with --force.")
    is_empty = location.is_dir() and not any(location.iterdir())
    if not (is_empty or _is_bundle(location)):
        raise UsageError(f"'{location}' is not a bundle, so --force does not replace it.", "Choose another name.")


def _is_bundle(location: Path) -> bool:
    """Whether something has a manifest of ours; other software has files of that name too."""
    try:
        storage = open_storage(location)
        if storage.size(MANIFEST) > MANIFEST_LIMIT:
            return False
        document = json.loads(bytes(storage.read(MANIFEST)).decode("utf-8"))
    except (BundleError, UsageError, OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and {"schema_version", "variants"} <= document.keys()


def write_zip(target: Path, folder: Path) -> None:
    """Pack a folder: members stored in order of their names, aligned to 16 KiB, with one fixed time."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(f for f in folder.rglob("*") if f.is_file()):
            name = file.relative_to(folder).as_posix()
            info = zipfile.ZipInfo(name, _FIXED_TIME)
            info.external_attr = _REGULAR_FILE
            info.create_system = 3
            info.file_size = file.stat().st_size
            assert archive.fp is not None
            info.extra = _padding(archive.fp.tell(), info)
            with archive.open(info, "w") as member, file.open("rb") as source:
                shutil.copyfileobj(source, member, 2**20)


def _padding(offset: int, info: zipfile.ZipInfo) -> bytes:
    """Return an extra field that makes the member's content start at a multiple of `ALIGNMENT`."""
    # zipfile itself adds a field of 20 bytes to the header of members that may pass 2 GiB.
    large = 20 if info.file_size * 1.05 > zipfile.ZIP64_LIMIT else 0
    used = offset + zipfile.sizeFileHeader + len(info.filename.encode()) + large + 6  # type: ignore[attr-defined]
    fill = -used % ALIGNMENT
    return struct.pack("<HHH", _ALIGNMENT_FIELD, 2 + fill, ALIGNMENT) + bytes(fill)


@contextmanager
def _unfinished(location: Path) -> Iterator[Path]:
    parent = location.absolute().parent
    prefix = f".{location.name}.unfinished-"
    for left in parent.glob(f"{glob.escape(prefix)}*"):
        # A container gives its process the same number again, so our own is no sign of life.
        owner = left.name.removeprefix(prefix).partition(".")[0]
        if owner == str(os.getpid()) or not _is_alive(owner):
            is_folder = left.is_dir() and not left.is_symlink()
            shutil.rmtree(left, ignore_errors=True) if is_folder else left.unlink()
    folder = parent / f"{prefix}{os.getpid()}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def _place(folder: Path, file: BundleFile) -> dict[str, Any]:
    target = folder / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(file.source, bytes):
        target.write_bytes(file.source)
    else:
        shutil.copyfile(file.source, target)
    found = file_sha256(target)
    if file.sha256 not in {None, found}:
        raise EnvironmentFailure(
            f"What was to become '{file.path}' is not what was measured: it was altered in the cache since.",
            "Start the export again: altered steps are made again.",
        )
    return {"sha256": found, "bytes": target.stat().st_size, "role": file.role}


def _write_evidence(folder: Path, documents: Mapping[str, Mapping[str, Any]]) -> None:
    for name, document in documents.items():
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(document, indent=1))


def _replace(location: Path, finished: Path) -> None:
    if location.is_symlink():
        location.unlink()  # what it leads to stays
    if location.is_dir():
        old = finished.with_name(f"{finished.name}.old")
        location.replace(old)
        finished.replace(location)
        shutil.rmtree(old, ignore_errors=True)
    else:
        finished.replace(location)
