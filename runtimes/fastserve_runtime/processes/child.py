"""Child processes: one way to start one, ask it, bound it, and tell how it ended.

Whatever may crash, hang, print or take all memory is done in a child: an engine on a stranger's file, a converter, a
measurement that must stand alone, a target's checks. A child is a module that calls `answering.answer_requests`. It
gets requests on its standard input and answers on its standard output, as messages of `framing`; what it prints goes to
its log. It ends with the process that started it, in whatever way that ends, and with it all that it started itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from fastserve_runtime.closing import ClosedAtEnd
from fastserve_runtime.errors import BundleError, EnvironmentFailure, FastServeError, InputError, UsageError
from fastserve_runtime.processes.family import held_by_family
from fastserve_runtime.processes.framing import read_message, write_message
from fastserve_runtime.processes.lifeline import lifeline
from fastserve_runtime.processes.limits import Limits

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Tensor, Tensors

_LOOK_EVERY_SECONDS = 0.2
_SECONDS_TO_END = 5
_ERRORS: dict[str, type[FastServeError]] = {
    kind.__name__: kind for kind in (BundleError, EnvironmentFailure, InputError, UsageError)
}
_GIBIBYTE = 2**30


@dataclass(frozen=True)
class Program:
    """What a child runs.

    Attributes:
        module: its module, run as a program.
        arguments: of the program.
        interpreter: the Python that runs it; None for the one that runs now.
        environment: variables beside those of this process, set before it starts.
        folder: where it runs; None for where this process does.
    """

    module: str
    arguments: tuple[str, ...] = ()
    interpreter: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None


class ChildEnded(Exception):
    """A child died, or was ended, and gave no answer.

    Attributes:
        how: why, in words, as the end of a sentence: `crashed with SIGSEGV`.
        code: its exit code; the negative of a signal's number.
        log: what it and its libraries printed; empty where that was shown.
        was_late: whether it was ended since it took too long.
    """

    def __init__(self, how: str, code: int, log: str = "", *, was_late: bool = False) -> None:
        self.how, self.code, self.log, self.was_late = how, code, log, was_late
        super().__init__(how)

    def last_words(self, maximum: int = 1) -> str:
        """Return the last lines that it printed, at most so many; empty where it said nothing."""
        lines = [line.strip() for line in self.log.splitlines() if line.strip()]
        return " | ".join(lines[-maximum:])

    @property
    def told(self) -> str:
        """How it ended, and its last words, as the end of a sentence."""
        words = self.last_words()
        return f"{self.how}: {words}" if words else self.how


class Child(ClosedAtEnd):
    """A process that answers requests, one after the other."""

    def __init__(self, program: Program, limits: Limits | None = None, *, debug: bool = False) -> None:
        """Start it.

        Args:
            program: what it runs.
            limits: what it may use.
            debug: show what it prints, rather than to keep it for errors.
        """
        self._limits = limits or Limits()
        # It lives as long as the child.
        self._log: IO[bytes] | None = None if debug else tempfile.TemporaryFile()  # noqa: SIM115
        self._broken: str | None = None
        self._is_answering = False
        memory = [] if self._limits.memory is None else [f"--memory={self._limits.memory}"]
        self._ended_with = ExitStack()
        options: dict[str, Any] = {"env": {**os.environ, **program.environment}}
        if os.name == "posix":  # elsewhere, descriptors cannot be passed on
            line = self._ended_with.enter_context(lifeline())
            options["env"] |= line.environment
            options |= {"pass_fds": (line.descriptor,), "start_new_session": True}
        try:
            self._process = subprocess.Popen(
                [program.interpreter or sys.executable, "-m", program.module, *program.arguments, *memory],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                cwd=program.folder,
                **options,
            )
        except OSError:
            self._ended_with.close()
            raise

    def ask(self, header: Mapping[str, Any], arrays: Tensors | None = None) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Send a request and return its answer.

        Raises:
            FastServeError: the same as was raised there.
            ChildEnded: it died, said something that is no answer, or broke a limit and was ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._is_answering = True
        with self._watched():
            try:
                write_message(self._process.stdin, header, arrays)
                answer, outputs = read_message(self._process.stdout)
            except (OSError, EOFError, ValueError) as error:
                raise self._ended() from error
        self._is_answering = False
        if "error" in answer:
            raise _ERRORS.get(answer["error"], EnvironmentFailure)(answer["problem"], answer["remedy"])
        return answer, outputs

    def close(self) -> None:
        """Let it end, at once where it is in the middle of an answer; then end all that it started."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):  # what was not sent yet cannot be any more
                    stream.close()
        try:
            if not self._is_answering:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout=_SECONDS_TO_END)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it at once, and all that it started."""
        _kill(self._process)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        self._ended_with.close()

    def _ended(self) -> ChildEnded:
        with suppress(subprocess.TimeoutExpired):  # its streams close a moment before it has ended
            self._process.wait(timeout=_SECONDS_TO_END)
        self.kill()
        code = self._process.returncode
        log = ""
        if self._log is not None:
            self._log.seek(0)
            log = self._log.read().decode(errors="replace")
        was_late = self._broken is not None and self._broken.startswith("gave no answer")
        return ChildEnded(self._broken or ended_words(code), code, log, was_late=was_late)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Look after the limits while the block runs."""
        seconds, resident = self._limits.seconds, self._limits.resident
        if seconds is None and resident is None:
            yield
            return
        is_over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(seconds, resident, is_over), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            is_over.set()

    def _watch(self, seconds: float | None, resident: int | None, is_over: threading.Event) -> None:
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            left = None if end is None else max(0.0, end - time.monotonic())
            look = None if resident is None else _LOOK_EVERY_SECONDS
            if is_over.wait(min((t for t in (left, look) if t is not None), default=None)):
                return
            broken = self._broken_limit(seconds, end, resident)
            if broken is not None:
                self._broken = broken
                _kill(self._process)
                return

    def _broken_limit(self, seconds: float | None, end: float | None, resident: int | None) -> str | None:
        if end is not None and time.monotonic() >= end:
            return f"gave no answer in {seconds:g} s and was ended"
        held = 0 if resident is None else held_by_family(self._process.pid)
        if resident is not None and held > resident:
            allowed = f"{resident / _GIBIBYTE:.1f} GiB are allowed"
            return f"held {held / _GIBIBYTE:.1f} GiB of memory and was ended; {allowed}"
        return None


def _kill(process: subprocess.Popen[bytes]) -> None:
    if os.name == "posix":
        with suppress(ProcessLookupError, PermissionError):  # macOS refuses where only zombies are left
            os.killpg(process.pid, signal.SIGKILL)
    elif process.poll() is None:
        process.kill()


def ended_words(code: int) -> str:
    """Return how a process ended, in words: `crashed with SIGSEGV`."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"crashed with {signal.Signals(-code).name}"
    except ValueError:
        return f"crashed with signal {-code}"
