"""Ctrl-C in the process of the tests themselves."""

from __future__ import annotations

import gc
import signal


def press_ctrl_c() -> None:
    """Raise SIGINT so that its handler runs here.

    While the garbage collector calls back (Hypothesis asks it to), an exception of the handler would be swallowed.
    """
    gc.disable()
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        gc.enable()
