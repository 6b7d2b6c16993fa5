"""Writing what an export found: the bundle, and what helps to look for a wrong layer."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from fastserve.bundles.bundle_writer import write_bundle
from fastserve.bundles.evidence import evidence_of
from fastserve.bundles.manifest_writer import bundle_content
from fastserve.cache.records import ENTRY, Entry
from fastserve.exporting.resolving import Resolved
from fastserve.search.candidate import Candidate


def ship(asked: Resolved, kept: Sequence[Candidate], candidates: Sequence[Candidate], reference: Entry) -> str:
    """Write the bundle and return its digest.

    Args:
        asked: of the export.
        kept: what goes into it, best first.
        candidates: all that there are.
        reference: of the model that is exported: its tokenizer and goldens ship.
    """
    manifest, files = bundle_content(kept, reference, asked.checkpoint, asked.source)
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    evidence = {name: document for c in candidates if c in kept for name, document in evidence_of(c, now)}
    return write_bundle(asked.request.output, manifest, files, evidence, force=asked.request.force)


def write_debug(folder: Path, candidates: Sequence[Candidate], program: Entry) -> None:
    """Copy the exported program, the layer maps and the debug handles for whoever looks for a wrong layer."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in program.files:
        shutil.copyfile(program.folder / name, folder / name)
    for candidate in candidates:
        if candidate.folder is None or candidate.artifact is None:
            continue
        for file in candidate.folder.glob("*.json"):
            if file.name != ENTRY:
                shutil.copyfile(file, folder / f"{candidate.id}-{file.name}")
