"""A checkpoint's files as steps in another process find them: those whose digests are in the keys, and no others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fastserve.pipeline.step_inputs import InputFolders, user_inputs
from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.programs.torch_program import TorchProgram
from fastserve_runtime.errors import FastServeError


class ModelFiles:
    """The files that a checkpoint lists, with their digests taken at one time."""

    def __init__(self, checkpoint: Checkpoint | TorchProgram, folders: InputFolders) -> None:
        """Take the digests.

        Args:
            checkpoint: whose files.
            folders: makes the folder that steps get.
        """
        self._checkpoint = checkpoint
        self._folders = folders
        self._inputs = user_inputs(checkpoint.root, checkpoint.files())

    @property
    def digest(self) -> str:
        """One digest over names and contents."""
        return self._inputs.digest

    @contextmanager
    def lent(self, source: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Give a job's `source` that names the folder of these files, for as long as the job takes.

        Raises:
            UsageError: one of them changed since their digests were taken.
        """
        folder = self._folders.folder(self._inputs)
        root, location = self._checkpoint.root, self._checkpoint.location
        try:
            yield {**source, "path": str(folder if location == root else folder / location.name)}
        except FastServeError as error:
            # The user knows the model by where it really is.
            error.reword(str(folder), str(self._checkpoint.root))
            raise
        finally:
            self._inputs.check_unchanged()


def described_source(source: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a job's `source` says beside where the model is, which is what counts in a key."""
    return {name: value for name, value in source.items() if name != "path"}
