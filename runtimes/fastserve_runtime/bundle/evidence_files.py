"""Reading the evidence beside a bundle's manifest: what was measured and judged, by whoever did.

Evidence is no part of what was made, and no digest covers it. So what cannot be read is left out with a note, and never
keeps a bundle from being used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastserve_runtime.bundle.older_names import with_current_names
from fastserve_runtime.errors import one_line

MAX_BYTES = 16 * 2**20
"""Of one file."""
MAX_FILES = 1000
_FILES = "*.json"


@dataclass(frozen=True)
class Evidence:
    """What a folder has for one manifest: documents, oldest first, and a sentence for each file that has none."""

    documents: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()


def read_evidence(folder: Path, manifest: str) -> Evidence:
    """Read a folder's documents; those of other manifests are left out without a word.

    Args:
        folder: where they are; it may be missing.
        manifest: the digest of the manifest that they must name.
    """
    if folder.is_symlink():
        return Evidence(notes=("The evidence was left out: its folder is a link.",))
    files = sorted(folder.glob(_FILES)) if folder.is_dir() else []
    documents, notes = [], []
    for file in files[:MAX_FILES]:
        try:
            document = _document(file)
        except (OSError, ValueError, RecursionError) as error:
            notes.append(f"The evidence file '{file.name}' was left out: {one_line(error)}.")
            continue
        if document.get("manifest") == manifest:
            documents.append(document)
    if len(files) > MAX_FILES:
        notes.append(f"{len(files) - MAX_FILES} evidence files were left out: {MAX_FILES} are read.")
    return Evidence(tuple(sorted(documents, key=lambda d: str(d.get("time", "")))), tuple(notes))


def _document(file: Path) -> Mapping[str, Any]:
    if file.is_symlink() or not file.is_file():
        raise ValueError("it is a link or no file")
    if file.stat().st_size > MAX_BYTES:
        raise ValueError(f"it has over {MAX_BYTES} bytes")
    try:
        document = json.loads(file.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from error
    return with_current_names(document) if isinstance(document, dict) else {}
