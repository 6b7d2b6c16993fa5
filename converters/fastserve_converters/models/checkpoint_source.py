"""A job's `source` that is a checkpoint, and the data that a job names: what models of checkpoints have in common."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.checkpoints.task import TASKS, Task, usual_columns
from fastserve_converters.data import Sample, Split
from fastserve_converters.inputs import DataFiles, GivenData, InputKind, LoadedCheckpoint, PreparedInputs, input_kind
from fastserve_runtime.errors import UsageError

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


def divided_data(request: Mapping[str, Any], checkpoint: Checkpoint) -> Any:
    """Return the samples that a request names, divided as their kind does; see `InputKind`.

    Raises:
        UsageError: they cannot be read.
    """
    return _read_and_divided(request, checkpoint)[1]


def unjudged_texts(request: Mapping[str, Any], checkpoint: Checkpoint) -> list[Sample]:
    """Return all samples that a request names but for those that quality is judged on.

    Raises:
        UsageError: they cannot be read, or are no texts.
    """
    samples, divided = _read_and_divided(request, checkpoint)
    if not isinstance(divided, Split):
        raise UsageError(f"The samples of the task '{checkpoint.task}' are no texts.", "Leave the pass out.")
    judged = {sample.content for sample in divided.evaluation}
    return [sample for sample in samples if sample.content not in judged]


def _read_and_divided(request: Mapping[str, Any], checkpoint: Checkpoint) -> tuple[Any, Any]:
    task: Task = TASKS.load(checkpoint.task)
    columns = usual_columns(task).named(
        request["text_column"], request.get("text_pair_column"), request["label_column"]
    )
    files = DataFiles(tuple(Path(file) for file in request["data"]))
    kind = kind_of_inputs(checkpoint)
    samples = kind.read(GivenData(files, columns), checkpoint)
    return samples, kind.divide(samples, checkpoint, request["seed"])


def kind_of_inputs(checkpoint: Checkpoint) -> InputKind[Any, Any, Any, Any]:
    """Return the kind of a checkpoint's inputs."""
    return input_kind(TASKS.load(checkpoint.task), takes_pairs=checkpoint.takes_pairs)


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

    def loaded_checkpoint(self) -> LoadedCheckpoint:
        """Return the untouched model with what its inputs are made for."""
        return LoadedCheckpoint(self.checkpoint, self.original().model, self.length)

    def prepared_inputs(self, request: Mapping[str, Any], out: Path) -> PreparedInputs:
        """Return the inputs that a reference is made with, of the data that a request names.

        Args:
            request: the job's.
            out: gets the files that a bundle needs for them.

        Raises:
            UsageError: the data, or what the model brings for its inputs, cannot be used.
            EnvironmentFailure: the bundle's preprocessing and the original's disagree.
        """
        divided = divided_data(request, self.checkpoint)
        return kind_of_inputs(self.checkpoint).prepare(divided, self.loaded_checkpoint(), out)

    def load(self) -> LoadedModel:
        """Load the model."""
        from fastserve_converters.checkpoints.model_loading import load_with_notes

        return load_with_notes(self.checkpoint, trust_remote_code=self.source["trust_remote_code"])

    def forget_original(self) -> None:
        """Let go of the untouched model."""
        self._loaded = None
