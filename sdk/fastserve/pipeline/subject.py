"""The model that steps work on, as they find it: files whose digests are in the keys, and no others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import Any, Protocol

from fastserve.pipeline.step_inputs import InputFolders, StepInputs, user_inputs
from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.task import TASKS
from fastserve_converters.inputs import inputs_of_task
from fastserve_converters.models.checkpoint_source import source_of
from fastserve_converters.programs.torch_program import TorchProgram
from fastserve_runtime.errors import FastServeError


class Subject(Protocol):
    """A model that the converter process can load."""

    @property
    def task(self) -> str:
        """The model's task."""

    @property
    def inputs(self) -> str:
        """The kind of its inputs; see `fastserve_converters.inputs`."""

    def key(self) -> dict[str, Any]:
        """Return what decides what is loaded: settings, and digests of all files that may be read."""

    def lent(self, folders: InputFolders) -> AbstractContextManager[dict[str, Any]]:
        """Give a job's `source`, for as long as the job takes.

        Raises:
            UsageError: a file changed since its digest was taken.
        """


class ModelSubject:
    """A model in files; their digests are taken once, when they are first needed."""

    def __init__(self, model: Checkpoint | TorchProgram, source: Mapping[str, Any]) -> None:
        """Read nothing yet.

        Args:
            model: what its files say.
            source: how the converter process loads it, with the path where it really is.
        """
        self.model = model
        self._source = source

    @property
    def task(self) -> str:
        """The model's task."""
        return self.model.task

    @property
    def inputs(self) -> str:
        """The kind of its inputs."""
        return inputs_of_task(TASKS.load(self.task), takes_pairs=bool(self._source.get("pairs")))

    @cached_property
    def _inputs(self) -> StepInputs:
        return user_inputs(self.model.root, self.model.files())

    @property
    def digest(self) -> str:
        """One digest over names and contents of the files."""
        return self._inputs.digest

    def key(self) -> dict[str, Any]:
        """Return the settings and the digest of the files; where they lie does not matter."""
        return {"source": {n: v for n, v in self._source.items() if n != "path"}, "model": self.digest}

    @contextmanager
    def lent(self, folders: InputFolders) -> Iterator[dict[str, Any]]:
        """Give a job's `source` that names the folder of these files; see `Subject.lent`."""
        folder = folders.folder(self._inputs)
        root, location = self.model.root, self.model.location
        try:
            yield {**self._source, "path": str(folder if location == root else folder / location.name)}
        except FastServeError as error:
            # The user knows the model by where it really is.
            error.reword(str(folder), str(root))
            raise
        finally:
            self._inputs.check_unchanged()


def checkpoint_subject(
    checkpoint: Checkpoint, length: int, *, allow_pickle: bool = False, trust_remote_code: bool = False
) -> ModelSubject:
    """Return a checkpoint at a length.

    Args:
        checkpoint: the model's files.
        length: tokens that it is exported for: those of a text, or of a decoder's context.
        allow_pickle: whether weights may be read from pickles.
        trust_remote_code: whether the checkpoint's own code may be run.
    """
    options = {"allow_pickle": allow_pickle, "trust_remote_code": trust_remote_code}
    return ModelSubject(checkpoint, source_of(checkpoint, length, **options))
