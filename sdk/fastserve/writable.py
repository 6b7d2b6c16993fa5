"""Whether a folder can be written, asked before hours of work rather than behind them."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fastserve_runtime.errors import EnvironmentFailure, is_disk_full


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
            raise EnvironmentFailure(f"The disk of '{folder}' is full.", "Free some space.") from error
        raise EnvironmentFailure(f"{what} '{folder}' cannot be written: {error.strerror}.", remedy) from error
