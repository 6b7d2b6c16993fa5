"""The client of a converter process: starts it when the first job comes, and again after a crash."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from fastserve.cache.writable import has_no_room
from fastserve_runtime.closing import ClosedAtEnd
from fastserve_runtime.errors import EXIT_USAGE, DiskFull, EnvironmentFailure, UsageError, says_disk_full

_LOG_LINES_SHOWN = 3


class JobFailed(EnvironmentFailure):
    """A converter failed a job.

    Attributes:
        stops_all: whether other jobs on this model would fail for the same reason.
    """

    def __init__(self, problem: str, remedy: str, *, stops_all: bool) -> None:
        super().__init__(problem, remedy)
        self.stops_all = stops_all


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
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[str] | None = None
        self._log: IO[bytes] | None = None

    def run(self, job: Mapping[str, Any]) -> Any:
        """Do one job and return its result.

        Raises:
            UsageError: the converter refused it: the model, a setting or the data is wrong.
            JobFailed: the converter failed it.
            EnvironmentFailure: the converter process died.
        """
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line.endswith("\n"):
            code = process.wait()
            self.close()
            words = self._last_words()
            places = (Path(tempfile.gettempdir()), *([Path(job["out"])] if "out" in job else []))
            if says_disk_full(self._logged()) or any(map(has_no_room, places)):
                raise DiskFull(f", and the converter process died ({_describe_exit(code)})")
            raise EnvironmentFailure(f"The converter process died ({_describe_exit(code)}).{words}")
        answer = json.loads(line)
        if "result" not in answer:
            if answer["exit_code"] == EXIT_USAGE:
                raise UsageError(answer["problem"], answer["remedy"])
            raise JobFailed(answer["problem"], answer["remedy"], stops_all=answer["stops_all"])
        return answer["result"]

    def close(self) -> None:
        """End the process, in the middle of a job too."""
        if self._process is not None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    # What a process that died did not read is still waiting to be written.
                    with suppress(BrokenPipeError):
                        stream.close()
            self._process = None

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._log = None if self._debug else tempfile.TemporaryFile()  # noqa: SIM115 -- lives as long as the child
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fastserve_converters.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
                encoding="utf-8",
                start_new_session=True,
                # Converters walk over sets of names: the order of what they write would be that of this run's hashes.
                env={**os.environ, "PYTHONHASHSEED": "0", **self._environment},
                cwd=Path(tempfile.gettempdir()),
            )
        return self._process

    def _logged(self) -> str:
        if self._log is None:
            return ""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def _last_words(self) -> str:
        if self._log is None:
            return ""
        lines = [x.strip() for x in self._logged().splitlines() if x.strip()]
        return " Its last words: " + " | ".join(lines[-_LOG_LINES_SHOWN:]) if lines else ""


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
