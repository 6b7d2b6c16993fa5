"""Ending a helper process together with the one that started it, in whatever way that ended.

The child gets the reading end of a pipe of which only its parent holds the other: it closes even where the parent is
killed. A thread of the child waits for that. Native code may keep that thread from running for a long time, so where a
child starts nothing itself, the kernel may be asked too, on Linux (`prctl(PR_SET_PDEATHSIG)`): the kernel is quicker
than the thread and ends the child alone, so it must not be asked where there may be more to end.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

_VARIABLE = "FASTSERVE_LIFELINE"
_SET_PARENT_DEATH_SIGNAL = 1


@dataclass(frozen=True)
class Lifeline:
    """What a child is started with: a descriptor to be passed on, and the variable that names it.

    The child must begin a session of its own, since it ends its whole process group.
    """

    descriptor: int
    environment: Mapping[str, str]


@contextmanager
def lifeline() -> Iterator[Lifeline]:
    """Hold a pipe for a child that is started and ends inside the block."""
    read, held = os.pipe()
    try:
        yield Lifeline(read, {_VARIABLE: str(read)})
    finally:
        os.close(read)
        os.close(held)


def end_with_parent() -> None:
    """End this process, and all that it started, as soon as the one that holds its lifeline is gone.

    Where this process was started without one, nothing happens.
    """
    descriptor = os.environ.pop(_VARIABLE, None)
    if descriptor is not None:
        threading.Thread(target=_end_at_end_of, args=(int(descriptor),), daemon=True).start()


def ask_kernel() -> None:
    """Have the kernel kill this process once the thread that started it has ended; nothing happens but on Linux.

    What this process has started goes on.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def _end_at_end_of(descriptor: int) -> None:
    os.read(descriptor, 1)
    os.killpg(0, signal.SIGKILL)
