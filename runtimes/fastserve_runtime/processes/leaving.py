"""Leaving at once on Ctrl-C, for as long as there is nothing to end in order.

Python answers Ctrl-C with a traceback where nobody catches it, as while modules are imported. So commands ask for this
before they import anything else; this module, and the packages around it, import next to nothing themselves.
"""

from __future__ import annotations

import os
import signal

from fastserve_runtime.errors import EXIT_INTERRUPTED

_WORDS = b"Error: Interrupted.\n"


def leave_on_ctrl_c() -> None:
    """End the process at once from now on; where Ctrl-C is ignored, as in the background, that stays."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)


def leave(number: int, frame: object) -> None:  # noqa: ARG001 -- the signature is Python's
    """Say that the process was interrupted, and end it."""
    os.write(2, _WORDS)
    os._exit(EXIT_INTERRUPTED)
