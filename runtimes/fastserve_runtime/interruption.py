"""Ctrl-C while there is nothing to end in order, and where there is.

Python raises KeyboardInterrupt anywhere, with a traceback where nobody catches it, as while modules are imported.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from fastserve_runtime.errors import EXIT_INTERRUPTED

_WORDS = b"Error: Interrupted.\n"


def leave_on_ctrl_c() -> None:
    """End the process at once from now on; where Ctrl-C is ignored, as in the background, that stays."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


@contextmanager
def ctrl_c_raised() -> Iterator[None]:
    """Have Ctrl-C raise KeyboardInterrupt inside the block, where `leave_on_ctrl_c` was called before."""
    is_main = threading.current_thread() is threading.main_thread()  # signals can be set there alone
    if not is_main or signal.getsignal(signal.SIGINT) is not _leave:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, _leave)


def _leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 -- the signature is Python's
    os.write(2, _WORDS)
    os._exit(EXIT_INTERRUPTED)
