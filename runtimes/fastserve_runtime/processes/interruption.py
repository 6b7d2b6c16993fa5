"""Ctrl-C while there is something to end in order.

Python raises KeyboardInterrupt wherever the process happens to be, which may be inside a library that swallows it or
makes an error of its own of it. So it is noted too, and what is noted ends the work all the same.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fastserve_runtime.processes.leaving import leave

_noted = False


@contextmanager
def ctrl_c_raised() -> Iterator[None]:
    """Have Ctrl-C raise KeyboardInterrupt inside the block, where `leave_on_ctrl_c` was called before.

    Where it was swallowed there, it is raised at the end of the block, in place of the error that a library made of it.
    """
    is_main = threading.current_thread() is threading.main_thread()  # signals can be set there alone
    if not is_main or signal.getsignal(signal.SIGINT) is not leave:
        yield
        return
    answer_ctrl_c()
    signal.signal(signal.SIGINT, _note_and_raise)
    try:
        try:
            yield
        except Exception as error:
            if _noted:
                raise KeyboardInterrupt from error
            raise
        raise_noted_ctrl_c()
    finally:
        signal.signal(signal.SIGINT, leave)


def raise_noted_ctrl_c() -> None:
    """Raise KeyboardInterrupt where Ctrl-C was pressed and a library swallowed it; for the beginning of long work."""
    if _noted:
        raise KeyboardInterrupt


def answer_ctrl_c() -> None:
    """Forget that Ctrl-C was pressed, where somebody has acted on it."""
    global _noted
    _noted = False


def _note_and_raise(number: int, frame: object) -> None:  # noqa: ARG001 -- the signature is Python's
    global _noted
    _noted = True
    raise KeyboardInterrupt
