"""A program as an export names it: its file, its signature, and what a bundle says of its source."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastserve_converters.programs.archive import read_archive
from fastserve_converters.programs.program_signature import signature_of_program
from fastserve_runtime.bundle.tensor_specs import Signature

TASK = "tensor-to-tensor"


@dataclass(frozen=True)
class TorchProgram:
    """A `.pt2` file that was checked; PyTorch has not seen it.

    Attributes:
        path: the file.
        signature: what it takes and gives.
        digest: SHA-256 of what is loaded of it, whatever the file's dates.
    """

    path: Path
    signature: Signature
    digest: str
    task: str = TASK
    licence: str | None = None

    @property
    def root(self) -> Path:
        """The folder that the file is in."""
        return self.path.parent

    @property
    def location(self) -> Path:
        """What an export was told: the file."""
        return self.path

    def files(self) -> tuple[Path, ...]:
        """Return the files that steps read."""
        return (self.path,)

    def licence_files(self) -> tuple[Path, ...]:
        """Return none: a program comes without."""
        return ()

    def weights_sha256(self) -> str:
        """Return a digest of the program and its weights."""
        return self.digest

    def job_source(self) -> Mapping[str, Any]:
        """Return the `source` of a job on it."""
        return {"path": str(self.path.absolute()), "task": self.task}


def read_program(path: Path) -> TorchProgram:
    """Read and check a program.

    Raises:
        UsageError: see `read_archive` and `signature_of_program`.
    """
    archive = read_archive(path)
    hashed = hashlib.sha256()
    for name, content in sorted(archive.members.items()):
        hashed.update(f"{name}\0{len(content)}\0".encode())
        hashed.update(content)
    return TorchProgram(path, signature_of_program(archive), hashed.hexdigest())
