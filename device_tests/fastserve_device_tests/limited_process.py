"""A child process with limits on its time and memory."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastserve_runtime.memory import parse_status

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


def run_limited(command: Sequence[str], environment: Mapping[str, str], *, seconds: float, memory: int) -> Ended:
    """Run a program to its end, or end it with all that it started.

    Address space is left alone (`RLIMIT_AS`): drivers reserve far more of it than they use. Resident memory is looked
    at instead, where the system tells it (Linux).

    Args:
        command: the program and its arguments.
        environment: variables beside those of this process.
        seconds: how long it may take.
        memory: most bytes of its own that it may hold in memory (`RssAnon`).
    """
    end = time.monotonic() + seconds
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
        start_new_session=True,
    ) as process:
        broken = None
        while True:
            try:
                output, errors = process.communicate(timeout=_LOOK_EVERY_SECONDS)
                return Ended(process.returncode, output, errors, broken)
            except subprocess.TimeoutExpired:
                if broken is None:
                    broken = _broken_limit(process.pid, end, seconds, memory)
                if broken is not None:
                    _end_group(process.pid)
            except BaseException:
                _end_group(process.pid)
                raise


def _broken_limit(pid: int, end: float, seconds: float, memory: int) -> str | None:
    if time.monotonic() > end:
        return f"it hung and was ended after {seconds:g} s"
    held = _own_memory(pid)
    if held is not None and held > memory:
        return f"it held {held / 2**30:.1f} GiB of memory and was ended; {memory / 2**30:.1f} GiB are allowed"
    return None


def _own_memory(pid: int) -> int | None:
    try:
        return parse_status(Path(f"/proc/{pid}/status").read_text()).anonymous
    except OSError:  # it has just ended, or the system tells it in another way
        return None


def _end_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
