"""Reading a bundle: a directory, or one zip file whose members are stored.

Nothing in a bundle is trusted: paths may not leave it, links are refused, sizes and SHA-256 digests must be those
of the manifest before an engine sees a byte.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import stat
import zipfile
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from fastserve_runtime.bundle.evidence_files import Evidence, read_evidence
from fastserve_runtime.bundle.manifest import FileEntry, Manifest, parse_manifest
from fastserve_runtime.bundle.manifest_checks import check_manifest
from fastserve_runtime.closing import ClosedAtEnd
from fastserve_runtime.errors import BundleError, UsageError

MANIFEST = "manifest.json"
EVIDENCE = "evidence"
MANIFEST_LIMIT = 64 * 2**20
"""Bytes: a larger manifest is refused before it is parsed."""


class Storage(Protocol):
    """Where a bundle's files are: a directory or a zip file."""

    def names(self) -> list[str]:
        """List every file, with '/' between folders."""

    def size(self, name: str) -> int:
        """Return a file's size in bytes."""

    def read(self, name: str) -> memoryview:
        """Return a file's content, mapped into memory where that can be done."""

    def path(self, name: str) -> Path | None:
        """Return the file's path, or None where it has none of its own."""

    def close(self) -> None:
        """Let go of what is open."""


class DirectoryStorage:
    """A bundle that is a directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> list[str]:
        """List every file. A link or a special file anywhere but in the evidence is an error."""
        found = []
        for folder, folders, files in os.walk(self._root):
            for name in (*folders, *files):
                path = Path(folder, name)
                mode = path.lstat().st_mode
                relative = path.relative_to(self._root).as_posix()
                if stat.S_ISREG(mode):
                    found.append(relative)
                # What is wrong with evidence keeps no bundle from being used; see `read_evidence`.
                elif not stat.S_ISDIR(mode) and PurePosixPath(relative).parts[0] != EVIDENCE:
                    raise BundleError(f"The bundle contains '{relative}', which is a link or a special file.")
        return sorted(found)

    def size(self, name: str) -> int:
        """Return a file's size in bytes."""
        return self._file(name).stat().st_size

    def read(self, name: str) -> memoryview:
        """Map a file into memory."""
        path = self._file(name)
        if path.stat().st_size == 0:
            return memoryview(b"")
        with path.open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def path(self, name: str) -> Path:
        """Return the file's path."""
        return self._file(name)

    def close(self) -> None:
        """Nothing is kept open."""

    def _file(self, name: str) -> Path:
        path = self._root / name
        for part in (path, *path.parents):
            if part == self._root:
                break
            if part.is_symlink():
                raise BundleError(f"The bundle's file '{name}' is behind a link.")
        if not path.is_file():
            raise BundleError(f"The bundle's file '{name}' is missing.")
        return path


class ZipStorage:
    """A bundle that is one zip file; its members must be stored, not compressed, and are mapped in place."""

    def __init__(self, file: Path) -> None:
        try:
            with zipfile.ZipFile(file) as content:
                members = content.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
            raise BundleError(f"'{file}' is not a readable bundle: {error}.", "Copy or export it again.") from error
        with file.open("rb") as handle:
            self._map = memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ))
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in members:
            if stat.S_ISLNK(member.external_attr >> 16):
                raise BundleError(f"The bundle contains '{member.filename}', which is a link.")
            if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                raise BundleError(f"The bundle's member '{member.filename}' is compressed.", "Bundles store members.")
            if member.filename in self._members:
                raise BundleError(f"The bundle contains '{member.filename}' twice.")
            if not member.is_dir():
                self._members[member.filename] = member

    def names(self) -> list[str]:
        """List every file."""
        return sorted(self._members)

    def size(self, name: str) -> int:
        """Return a file's size in bytes."""
        return self._member(name).file_size

    def read(self, name: str) -> memoryview:
        """Return a slice of the mapped zip file."""
        member = self._member(name)
        header = self._map[member.header_offset : member.header_offset + 30]
        if len(header) < 30 or bytes(header[:4]) != b"PK\x03\x04":
            raise BundleError(f"The bundle's member '{name}' has a damaged header.", "Copy or export it again.")
        # The local header's own name and extra lengths count: the extra field differs from the directory's.
        start = member.header_offset + 30 + int.from_bytes(header[26:28], "little")
        start += int.from_bytes(header[28:30], "little")
        content = self._map[start : start + member.file_size]
        if len(content) != member.file_size:
            raise BundleError(f"The bundle's member '{name}' is cut off.", "Copy or export it again.")
        return content

    def path(self, name: str) -> None:
        """A member has no path of its own."""

    def close(self) -> None:
        """The file is closed already; what is mapped stays valid until it is let go of."""

    def _member(self, name: str) -> zipfile.ZipInfo:
        if name not in self._members:
            raise BundleError(f"The bundle's file '{name}' is missing.")
        return self._members[name]


class Bundle(ClosedAtEnd):
    """An open bundle. Use `open_bundle`."""

    def __init__(self, location: Path, storage: Storage, manifest: Manifest) -> None:
        self.location = location
        self.storage = storage
        self.manifest = manifest

    def read(self, path: str) -> memoryview:
        """Return a file's content after comparing size and SHA-256 with the manifest.

        Raises:
            BundleError: the file is missing, or is not what the manifest says.
        """
        entry = self.entry(path)
        self._check_size(entry)
        content = self.storage.read(path)
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise BundleError(
                f"The bundle's file '{path}' was altered or damaged: its SHA-256 is not the manifest's.",
                "Copy or export the bundle again.",
            )
        return content

    def model(self, path: str) -> Path | memoryview:
        """Check a model file and return its path, or its content where it has no path of its own (zip)."""
        content = self.read(path)
        return self.storage.path(path) or content

    def entry(self, path: str) -> FileEntry:
        """Return the manifest's entry of a file."""
        if path not in self.manifest.files:
            raise BundleError(f"The bundle's manifest lists no file '{path}'.")
        return self.manifest.files[path]

    def check_integrity(self) -> None:
        """Compare every file with the manifest; a file that the manifest does not list is an error too.

        Raises:
            BundleError: naming the first file that is wrong.
        """
        for name in self.storage.names():
            is_extra = name != MANIFEST and not name.startswith(f"{EVIDENCE}/") and name not in self.manifest.files
            if is_extra:
                raise BundleError(f"The bundle contains '{name}', which its manifest does not list.")
        for path in self.manifest.files:
            self.read(path)

    def evidence(self) -> list[dict[str, Any]]:
        """Return the evidence documents of this manifest: measurements and verdicts, oldest first.

        They lie in the directory's `evidence/`, or for a zip in the folder beside it that `evidence_folder` names.
        Evidence is no part of what was made: what cannot be read is left out, and `evidence_notes` says so.
        """
        return [dict(document) for document in self._evidence.documents]

    def evidence_notes(self) -> list[str]:
        """Return a sentence for every evidence file that cannot be read."""
        return list(self._evidence.notes)

    @cached_property
    def _evidence(self) -> Evidence:
        return read_evidence(evidence_folder(self.location), self.manifest.digest)

    def close(self) -> None:
        """Let go of the bundle's files. Open sessions go on."""
        self.storage.close()

    def _check_size(self, entry: FileEntry) -> None:
        size = self.storage.size(entry.path)
        if size != entry.bytes:
            raise BundleError(
                f"The bundle's file '{entry.path}' has {size} bytes; the manifest says {entry.bytes}.",
                "Copy or export the bundle again.",
            )


def evidence_folder(location: Path) -> Path:
    """Return the folder that holds a bundle's evidence: inside a directory, beside a zip."""
    if location.is_dir():
        return location / EVIDENCE
    return location.with_name(f"{location.name}.{EVIDENCE}")


def open_bundle(location: str | Path) -> Bundle:
    """Open a bundle, best in a `with` block, and read its manifest. File contents are checked when they are read.

    Raises:
        UsageError: there is nothing at that place.
        BundleError: it is not a bundle, is damaged, or is of a version that this runtime does not read.
    """
    location = Path(location)
    storage = open_storage(location)
    names = storage.names()
    for name in names:
        check_path(name)
    if MANIFEST not in names:
        raise BundleError(f"'{location}' is not a bundle: it has no {MANIFEST}.")
    if storage.size(MANIFEST) > MANIFEST_LIMIT:
        raise BundleError(f"The bundle's {MANIFEST} has over {MANIFEST_LIMIT} bytes.")
    try:
        # Decoded here, since the json module would guess at UTF-16 and UTF-32 too.
        document = json.loads(bytes(storage.read(MANIFEST)).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BundleError(f"The bundle's {MANIFEST} is not JSON: {error}.", "Copy or export it again.") from error
    manifest = parse_manifest(document)
    check_manifest(manifest)
    for path in manifest.files:
        check_path(path)
    return Bundle(location, storage, manifest)


def open_storage(location: Path) -> Storage:
    """Open the files of what may be a bundle, without looking into any.

    Raises:
        UsageError: there is nothing at that place.
        BundleError: it is neither a directory nor a zip file of stored members.
    """
    if location.is_dir():
        return DirectoryStorage(location)
    if location.is_file():
        return ZipStorage(location)
    raise UsageError(f"There is no bundle at '{location}'.", "Check the path.")


def check_path(path: str) -> None:
    """Refuse a path that could leave the bundle or means different things on different systems.

    Raises:
        BundleError: the path is absolute, empty, has '..', a backslash, a drive, or a control character.
    """
    parts = PurePosixPath(path).parts
    is_plain = path and "\\" not in path and ":" not in path and path.isprintable()
    if not is_plain or path.startswith("/") or ".." in parts or "/".join(parts) != path:
        raise BundleError(f"The bundle contains the path {path!r}, which is not a plain path inside it.")
