"""The content of a `.pt2` file, read with the standard library alone (torch/csrc/export/pt2_archive_constants.h).

`torch.export.load` trusts a file: it unpickles, evaluates expressions and looks functions up by name. So nothing is
given to it but what was read and checked here, written anew (`archive_checks`).
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastserve_converters.programs.archive_checks import checked_members
from fastserve_runtime.errors import UsageError

SUFFIX = ".pt2"
MODEL = "models/model.json"
EXTRA = "extra/"
"""Folder of what `torch.export.save` was given as `extra_files`."""
DESCRIPTION = "fastserve.json"
"""Ours among them: the names of axes."""
SCHEMA_MAJOR = 8
"""Of `torch._export.serde.schema`, in the release of PyTorch that this project is pinned to."""
_REMEDY = "Write it again with torch.export.save, of the release of PyTorch that is installed here."
_MAX_MEMBERS = 1_000_000


@dataclass(frozen=True)
class ProgramArchive:
    """A checked `.pt2` file.

    Attributes:
        members: path inside the archive → content; pickles among them hold tensors alone, as far as their names tell.
        document: the program, `torch._export.serde.schema.ExportedProgram` as JSON.
        description: what `DESCRIPTION` says, or nothing.
    """

    members: Mapping[str, bytes]
    document: Mapping[str, Any]
    description: Mapping[str, Any]

    @property
    def torch_version(self) -> str:
        """The release of PyTorch that wrote it."""
        return str(self.document.get("torch_version") or "unknown")

    def stream(self) -> io.BytesIO:
        """Return an archive of just these members, for `torch.export.load`."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for name, content in self.members.items():
                archive.writestr(f"program/{name}", content)
        buffer.seek(0)
        return buffer


def read_archive(path: Path) -> ProgramArchive:
    """Read a program and refuse one that would run anything but PyTorch's operators.

    Raises:
        UsageError: there is no such file, it is no program, is of a release of PyTorch that writes them otherwise, or
            holds what could be executed.
    """
    if not path.is_file():
        raise UsageError(f"There is no program at '{path}'.", "Check the path.")
    try:
        members = _members(path)
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError) as error:
        raise UsageError(f"'{path.name}' is no program of torch.export: {error}.", _REMEDY) from error
    if "serialized_exported_program.json" in members:
        raise UsageError(
            f"'{path.name}' was written by a release of PyTorch before 2.8, in another format.",
            _REMEDY,
        )
    if MODEL not in members:
        have = ", ".join(sorted(members)[:3]) or "nothing"
        raise UsageError(f"'{path.name}' has no {MODEL} ({have:.200}): it holds no program called 'model'.", _REMEDY)
    document = _json(path, members[MODEL])
    _check_version(path, document)
    extra = members.get(EXTRA + DESCRIPTION)
    return ProgramArchive(
        members=checked_members(path.name, members, document),
        document=document,
        description={} if extra is None else _json(path, extra),
    )


def _members(path: Path) -> dict[str, bytes]:
    """Return all members by their paths below the archive's one folder, as PyTorch's own reader names them."""
    found: dict[str, bytes] = {}
    with zipfile.ZipFile(path) as archive:
        listed = archive.infolist()
        if len(listed) > _MAX_MEMBERS or any(m.compress_type != zipfile.ZIP_STORED for m in listed):
            raise ValueError("its members are not stored as torch.export.save stores them")
        for member in listed:
            root, _, name = member.filename.partition("/")
            name = name or root
            if name in found:
                raise ValueError(f"it has '{name:.80}' twice")
            if not member.is_dir():
                found[name] = archive.read(member)
    return found


def _json(path: Path, content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"'{path.name}' is damaged: {error}.", _REMEDY) from error
    if not isinstance(document, dict):
        raise UsageError(f"'{path.name}' is damaged: it holds no object.", _REMEDY)
    return document


def _check_version(path: Path, document: Mapping[str, Any]) -> None:
    version = document.get("schema_version")
    major = version.get("major") if isinstance(version, Mapping) else None
    if major != SCHEMA_MAJOR:
        raise UsageError(
            f"'{path.name}' was written by PyTorch {document.get('torch_version') or 'unknown'!s:.40} with "
            f"the schema version {major!r:.20} of programs; this release reads {SCHEMA_MAJOR}.",
            _REMEDY,
        )
