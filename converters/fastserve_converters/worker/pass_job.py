"""The job that makes another checkpoint of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastserve_converters.models.checkpoint_source import checkpoint_of, unjudged_texts
from fastserve_converters.pass_words import asked_pass
from fastserve_converters.passes import PassJob

CHECKPOINT = "checkpoint"
"""Folder of the new checkpoint."""


def run_pass(request: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Run a pass on the checkpoint that a job's `source` names, and read what the files say that it wrote.

    Args:
        request: the job's: `pass` (name and settings), `seed`, and which data, where the pass reads any.
        out: an empty folder, in which `CHECKPOINT` is made.

    Returns:
        The pass's report, JSON.

    Raises:
        FastServeError: the pass refuses the checkpoint, or wrote none.
    """
    asked = asked_pass(request["pass"])
    checkpoint = checkpoint_of(request["source"])
    asked.settings.check(checkpoint)
    samples = unjudged_texts(request, checkpoint) if asked.module.READS_SAMPLES else ()
    folder = out / CHECKPOINT
    folder.mkdir()
    report = asked.settings.apply(PassJob(checkpoint, samples, request["source"]["length"], request["seed"], folder))
    checkpoint_of({**request["source"], "path": str(folder)})  # whoever wrote it
    return {"notes": list(report.notes), "figures": dict(report.figures)}
