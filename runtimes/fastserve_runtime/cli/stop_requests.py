"""Ctrl-C as a wish that is asked for, instead of an exception anywhere."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stopped_by_ctrl_c() -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether Ctrl-C was pressed inside the block; a second one raises KeyboardInterrupt.

    Signals come to a process's main thread alone; in others, nothing changes.
    """
    pressed = False

    def press(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 -- the signature is Python's
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, press)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)
