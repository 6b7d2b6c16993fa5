"""The client of a converter process: starts it when the first job comes, and again after a crash."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastserve.cache.writable import has_no_room
from fastserve_runtime.closing import ClosedAtEnd
from fastserve_runtime.errors import (
    EXIT_USAGE,
    DiskFull,
    EnvironmentFailure,
    FastServeError,
    ProcessDied,
    UsageError,
    says_disk_full,
)
from fastserve_runtime.processes.child import Child, ChildEnded, Program

_WORKER = "fastserve_converters.worker"
_LOG_LINES_SHOWN = 3


class JobFailed(EnvironmentFailure):
    """A converter failed a job.

    Attributes:
        stops_all: whether other jobs on this model would fail for the same reason.
    """

    def __init__(self, problem: str, remedy: str, *, stops_all: bool) -> None:
        super().__init__(problem, remedy)
        self.stops_all = stops_all


def stops_all(error: FastServeError) -> bool:
    """Whether a failure would come again in any other job on the model."""
    return isinstance(error, DiskFull) or (isinstance(error, JobFailed) and error.stops_all)


class ConverterProcess(ClosedAtEnd):
    """Runs jobs in a child process (`fastserve_converters.worker`), so that its crash is an error and not ours.

    What the child prints goes to a log: the terminal with `debug`, else a temporary file.
    """

    def __init__(self, *, debug: bool = False, environment: Mapping[str, str] | None = None) -> None:
        """Start nothing yet.

        Args:
            debug: show the child's log.
            environment: variables that must be set before it starts, beside those of this process.
        """
        self._debug = debug
        # Converters walk over sets of names: the order of what they write would be that of this run's hashes.
        own = {"PYTHONHASHSEED": "0", **(environment or {})}
        self._program = Program(_WORKER, environment=own, folder=Path(tempfile.gettempdir()))
        self._child: Child | None = None

    def run(self, job: Mapping[str, Any]) -> Any:
        """Do one job and return its result.

        Raises:
            UsageError: the converter refused it: the model, a setting or the data is wrong.
            JobFailed: the converter failed it.
            EnvironmentFailure: the converter process died.
        """
        if self._child is None:
            self._child = Child(self._program, debug=self._debug)
        try:
            answer, _ = self._child.ask(job)
        except ChildEnded as ended:
            self._child = None
            places = (Path(tempfile.gettempdir()), *([Path(job["out"])] if "out" in job else []))
            if says_disk_full(ended.log) or any(map(has_no_room, places)):
                raise DiskFull(f", and the converter process {ended.how}") from ended
            words = ended.last_words(_LOG_LINES_SHOWN)
            last = f" Its last words: {words}" if words else ""
            raise ProcessDied(f"The converter process {ended.how}.{last}") from ended
        if "result" not in answer:
            if answer["exit_code"] == EXIT_USAGE:
                raise UsageError(answer["problem"], answer["remedy"])
            raise JobFailed(answer["problem"], answer["remedy"], stops_all=answer["stops_all"])
        return answer["result"]

    def close(self) -> None:
        """End the process at once, in the middle of a job too."""
        if self._child is not None:
            self._child.kill()
            self._child = None
