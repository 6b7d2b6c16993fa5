"""A job's `source` that is a checkpoint, and the texts that a job names: what models of texts have in common."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.checkpoints.task import TASKS, Task, usual_columns
from fastserve_converters.data import Split, read_samples, split_samples

if TYPE_CHECKING:
    from fastserve_converters.checkpoints.model_loading import LoadedModel


def source_of(checkpoint: Checkpoint, length: int, *, allow_pickle: bool, trust_remote_code: bool) -> dict[str, Any]:
    """Return the `source` of a job on a checkpoint, which `checkpoint_of` reads.

    Args:
        checkpoint: the model's files.
        length: tokens that the model is wanted for.
        allow_pickle: whether weights may be read from pickles.
        trust_remote_code: whether the checkpoint's own code may be run.
    """
    return {
        "path": str(checkpoint.location.absolute()),
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
    columns = usual_columns(task).named(
        request["text_column"], request.get("text_pair_column"), request["label_column"]
    )
    files = [Path(f) for f in request["data"]]
    samples = read_samples(files, columns, task.label_kind(checkpoint), takes_pairs=checkpoint.takes_pairs)
    return split_samples(samples, request["seed"], by_query=task.RANKS)


class CheckpointSource:
    """What models of texts that come as checkpoints have in common: they are loaded once, when they are asked for."""

    def __init__(self, source: Mapping[str, Any]) -> None:
        """Take a job's `source`; nothing is read yet."""
        self.source = source
        self._loaded: LoadedModel | None = None

    @property
    def length(self) -> int:
        """Tokens of a text, or of a decoder's context."""
        length: int = self.source["length"]
        return length

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The model's description."""
        return checkpoint_of(self.source)

    def original(self) -> LoadedModel:
        """Return the untouched model, loaded now if it is not in memory."""
        if self._loaded is None:
            self._loaded = self.load()
        return self._loaded

    def timed_original(self) -> tuple[LoadedModel, float]:
        """Return the same, and the seconds that it took."""
        started = time.perf_counter()
        return self.original(), time.perf_counter() - started

    def load(self) -> LoadedModel:
        """Load the model."""
        from fastserve_converters.checkpoints.model_loading import load_with_notes

        return load_with_notes(self.checkpoint, trust_remote_code=self.source["trust_remote_code"])

    def forget_original(self) -> None:
        """Let go of the untouched model."""
        self._loaded = None
