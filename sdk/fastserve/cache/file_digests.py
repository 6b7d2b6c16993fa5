"""Digests of many files at once: hashing lets other threads run, and a disk serves several readers."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fastserve_converters.checkpoints.checkpoint import file_sha256

_THREADS = 8


def files_sha256(files: Sequence[Path]) -> list[str]:
    """Return the SHA-256 of each file's content, in order.

    Raises:
        OSError: one of them cannot be read.
    """
    with ThreadPoolExecutor(max(1, min(_THREADS, len(files)))) as threads:
        return list(threads.map(file_sha256, files))
