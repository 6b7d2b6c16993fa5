"""Whether a folder can be written, asked before hours of work rather than behind them."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from fastserve_runtime.errors import DiskFull, EnvironmentFailure, is_disk_full

_MIN_ROOM = 64 * 1024
"""Bytes: a page for every file that a step has open."""


def check_writable(folder: Path, what: str, remedy: str, *, make: bool = False) -> None:
    """Write a byte into a folder and take it away again.

    Args:
        folder: where something will be written.
        what: what the folder is, for the message: `The cache folder`.
        remedy: what to do where it cannot be written.
        make: whether the folder and those above it are made.

    Raises:
        EnvironmentFailure: it cannot be made or written, or the disk is full.
    """
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"\0")
            probe.flush()
    except OSError as error:
        if is_disk_full(error):
            raise DiskFull(f": nothing can be written into '{folder}'") from error
        raise EnvironmentFailure(f"{what} '{folder}' cannot be written: {error.strerror}.", remedy) from error


def has_no_room(folder: Path) -> bool:
    """Whether the disk of a folder is full: what a process that died there could not write may be why."""
    try:
        return shutil.disk_usage(folder).free < _MIN_ROOM
    except OSError:
        return False
