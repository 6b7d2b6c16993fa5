"""Models in a process of their own: what an engine does to itself there, it does not do to the caller.

`open_model(..., isolate=True)` comes here. A file that is damaged, or from a stranger, may crash an engine, hang it, or
make it ask for all memory; the child process ends then, and the caller gets an error.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_runtime.bundle.manifest import parse_signature
from fastserve_runtime.closing import ClosedAtEnd
from fastserve_runtime.errors import (
    BundleError,
    EnvironmentFailure,
    FastServeError,
    InputError,
    UsageError,
)
from fastserve_runtime.parsing import Fields
from fastserve_runtime.processes.framing import read_message, write_message
from fastserve_runtime.processes.lifeline import lifeline
from fastserve_runtime.processes.limits import Limits
from fastserve_runtime.sessions.named_session import NamedSession
from fastserve_runtime.sessions.session import Placement

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Tensor, Tensors

_ERRORS: dict[str, type[FastServeError]] = {
    kind.__name__: kind for kind in (BundleError, EnvironmentFailure, InputError, UsageError)
}


class ProcessEnded(Exception):
    """The child process died or was ended; `how` says in words why: `crashed with SIGSEGV`."""

    def __init__(self, how: str) -> None:
        self.how = how
        super().__init__(how)


class EngineProcess(ClosedAtEnd):
    """A process with the runtime alone that opens a model, and another after it, and runs it on request."""

    def __init__(self, limits: Limits | None = None, *, debug: bool = False) -> None:
        self.limits = limits or Limits()
        command = [sys.executable, "-m", "fastserve_runtime.processes.isolated_worker"]
        if self.limits.memory is not None:
            command.append(f"--memory={self.limits.memory}")
        self._ended_with = ExitStack()
        options: dict[str, Any] = {}
        if os.name == "posix":  # elsewhere, descriptors cannot be passed on
            line = self._ended_with.enter_context(lifeline())
            options = {
                "env": {**os.environ, **line.environment},
                "pass_fds": (line.descriptor,),
                "start_new_session": True,
            }
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if debug else subprocess.DEVNULL,
            **options,
        )

    def ask(self, header: Mapping[str, Any], arrays: Tensors | None = None) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Send a request and return its answer.

        Raises:
            FastServeError: the same as the runtime raised there.
            ProcessEnded: the process died, or took too long and was ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        late = threading.Event()
        clock = None
        if self.limits.seconds is not None:
            clock = threading.Timer(self.limits.seconds, self._end_late, [late])
            clock.daemon = True
            clock.start()
        try:
            write_message(self._process.stdin, header, arrays)
            answer, outputs = read_message(self._process.stdout)
        except (OSError, EOFError, ValueError) as error:
            self._process.kill()
            code = self._process.wait()
            words = f"gave no answer in {self.limits.seconds} s and was ended" if late.is_set() else ended_words(code)
            raise ProcessEnded(words) from error
        finally:
            if clock is not None:
                clock.cancel()
        if "error" in answer:
            raise _ERRORS[answer["error"]](answer["problem"], answer["remedy"])
        return answer, outputs

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:  # what was not sent yet cannot be any more
                    continue
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            self._ended_with.close()

    def _end_late(self, late: threading.Event) -> None:
        late.set()
        self._process.kill()


class IsolatedSession(NamedSession):
    """A model that is open in a process of its own. One thread at a time; every call copies its tensors twice."""

    def __init__(self, process: EngineProcess, opened: Mapping[str, Any], threads: int) -> None:
        graphs = {name: parse_signature(Fields(value, name)) for name, value in opened["graphs"].items()}
        super().__init__(graphs, threads)
        self.engine = opened["engine"]
        self._process = process

    def _placement(self) -> Placement:
        answer = self._ask({"ask": "placement"})[0]
        return Placement(answer["operators"], answer["source"])

    def _execute(self, graph: str, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return self._ask({"ask": "run", "graph": graph}, inputs)[1]

    def _reset_state(self) -> None:
        self._ask({"ask": "reset_state"})

    def _release(self) -> None:
        self._process.close()

    def _ask(
        self, header: Mapping[str, Any], arrays: Tensors | None = None
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        try:
            return self._process.ask(header, arrays)
        except ProcessEnded as ended:
            raise EnvironmentFailure(
                f"The process of {self.engine} {ended.how} while running the model.", "Open the model again."
            ) from ended


def open_isolated(file: Path, engine: str, *, threads: int, limits: Limits | None = None) -> IsolatedSession:
    """Open a bare model file in a process of its own.

    Args:
        file: the model.
        engine: the engine's name.
        threads: how many threads one call may use.
        limits: what the process may use.

    Raises:
        BundleError: the engine refuses the model, or crashed or hung on it.
        EnvironmentFailure: the engine cannot be imported.
    """
    process = EngineProcess(limits)
    try:
        opened = process.ask(open_request(file, engine, threads=threads))[0]
    except ProcessEnded as ended:
        process.close()
        raise BundleError(
            f"The process of {engine} {ended.how} while loading '{file}'.",
            "The file is probably damaged: export again.",
        ) from ended
    except FastServeError:
        process.close()
        raise
    return IsolatedSession(process, opened, threads)


def open_request(file: Path, engine: str, *, threads: int = 1) -> dict[str, Any]:
    """Return the request that opens a model in an `EngineProcess`."""
    return {"ask": "open", "file": str(file.absolute()), "engine": engine, "threads": threads}


def ended_words(code: int) -> str:
    """Return how a process ended, in words: `crashed with SIGSEGV`."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"crashed with {signal.Signals(-code).name}"
    except ValueError:
        return f"crashed with signal {-code}"
