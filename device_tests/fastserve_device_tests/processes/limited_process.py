"""A child process with limits on its time and memory, which leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from fastserve_device_tests.needs import Needs
from fastserve_runtime.measurement.memory import parse_status
from fastserve_runtime.processes.lifeline import end_with_parent, lifeline

_LOOK_EVERY_SECONDS = 0.2


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: its exit code; the negative of a signal's number.
        output: what it wrote to standard output.
        errors: what it wrote to standard error.
        broken_limit: which limit it broke, in words; None if it ended by itself.
    """

    code: int
    output: bytes
    errors: bytes
    broken_limit: str | None

    @property
    def death(self) -> str:
        """How it died without an answer, as the end of a sentence: its exit code and its last words."""
        words = self.errors.decode(errors="replace").strip().splitlines()
        return f"died with exit code {self.code}" + (f": {words[-1]}" if words else "")


def run_module(needs: Needs, module: str, *arguments: str) -> Ended:
    """Run a module of this package in the environment, and within the limits, that a target needs."""
    command = [needs.python, "-m", f"fastserve_device_tests.{module}", *arguments]
    return run_limited(command, needs.environment, seconds=needs.seconds, memory=needs.memory)


def run_limited(command: Sequence[str], environment: Mapping[str, str], *, seconds: float, memory: int) -> Ended:
    """Run a program to its end, or end it with all that it started; what it started ends with it in any case.

    Address space is left alone (`RLIMIT_AS`): drivers reserve far more of it than they use. Resident memory is looked
    at instead, where the system tells it (Linux).

    Args:
        command: the program and its arguments.
        environment: variables beside those of this process.
        seconds: how long it may take.
        memory: most bytes of their own that it and what it started may hold in memory (`RssAnon`).
    """
    end = time.monotonic() + seconds
    with (
        lifeline() as line,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment, **line.environment},
            pass_fds=(line.descriptor,),
            start_new_session=True,
        ) as process,
    ):
        broken = None
        try:
            while True:
                try:
                    output, errors = process.communicate(timeout=_LOOK_EVERY_SECONDS)
                except subprocess.TimeoutExpired:
                    # Its answer ends only when nobody is left to write: a browser may outlive what started it.
                    if process.poll() is None and broken is None:
                        broken = _broken_limit(process.pid, end, seconds, memory)
                    if process.returncode is not None or broken is not None:
                        _end_group(process.pid)
                    continue
                return Ended(process.returncode, output, errors, broken)
        finally:
            _end_group(process.pid)


def begin_answer() -> TextIO:
    """Begin in a process that answers on standard output; return where the answer goes.

    Engines print to standard output: from now on that is standard error, so that the answer stands alone. The process
    ends with the one that started it.
    """
    end_with_parent()
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answer


def _broken_limit(pid: int, end: float, seconds: float, memory: int) -> str | None:
    if time.monotonic() > end:
        return f"it hung and was ended after {seconds:g} s"
    held = sum(map(_own_memory, _family(pid)))
    if held > memory:
        return f"it held {held / 2**30:.1f} GiB of memory and was ended; {memory / 2**30:.1f} GiB are allowed"
    return None


def _family(pid: int) -> Iterator[int]:
    """Yield a process and those that it started, where the system tells them."""
    yield pid
    try:
        words = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # it has just ended, or the system has no such files
        return
    for child in " ".join(words).split():
        yield from _family(int(child))


def _own_memory(pid: int) -> int:
    try:
        return parse_status(Path(f"/proc/{pid}/status").read_text()).anonymous or 0
    except OSError:  # it has just ended, or the system tells it in another way
        return 0


def _end_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
