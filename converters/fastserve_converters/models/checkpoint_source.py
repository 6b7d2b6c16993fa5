"""A job's `source` that is a checkpoint, and the texts that a job names: what models of texts have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.checkpoints.task import TASKS, Task
from fastserve_converters.data import Columns, Split, read_samples, split_samples


def source_of(checkpoint: Checkpoint, length: int, *, allow_pickle: bool, trust_remote_code: bool) -> dict[str, Any]:
    """Return the `source` of a job on a checkpoint, which `checkpoint_of` reads.

    Args:
        checkpoint: the model's files.
        length: tokens that the model is wanted for.
        allow_pickle: whether weights may be read from pickles.
        trust_remote_code: whether the checkpoint's own code may be run.
    """
    return {
        "path": str((checkpoint.gguf or checkpoint.root).absolute()),
        "task": checkpoint.task,
        "length": length,
        "allow_pickle": allow_pickle,
        "trust_remote_code": trust_remote_code,
        "truncate_dim": checkpoint.truncate_dim,
        "pairs": checkpoint.takes_pairs,
    }


def checkpoint_of(source: Mapping[str, Any]) -> Checkpoint:
    """Return the checkpoint that a job's `source` names.

    Raises:
        UsageError: it cannot be read, or has fewer positions than the length that is wanted.
    """
    checkpoint = read_checkpoint(
        Path(source["path"]),
        task=source["task"],
        allow_pickle=source["allow_pickle"],
        trust_remote_code=source["trust_remote_code"],
        truncate_dim=source.get("truncate_dim"),
        pairs=source.get("pairs", False),
    )
    checkpoint.check_length(source["length"])
    return checkpoint


def requested_texts(request: Mapping[str, Any], checkpoint: Checkpoint) -> Split:
    """Return the texts that a request names, for evaluation and calibration.

    Raises:
        UsageError: they cannot be read.
    """
    task: Task = TASKS.load(checkpoint.task)
    columns = Columns(request["text_column"], request.get("text_pair_column"), request["label_column"])
    files = [Path(f) for f in request["data"]]
    samples = read_samples(files, columns, task.label_kind(checkpoint), takes_pairs=checkpoint.takes_pairs)
    return split_samples(samples, request["seed"], by_query=task.RANKS)
