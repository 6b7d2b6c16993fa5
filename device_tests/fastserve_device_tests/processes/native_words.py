"""What an engine's native code prints while something is done, to be read as well as logged.

Some engines tell nothing but in such words: which operators went where, or why a model was refused.
"""

from __future__ import annotations

import ctypes
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fastserve_runtime.sessions.engine_logs import native_output_logged


@contextmanager
def native_words(log: logging.Logger) -> Iterator[list[str]]:
    """Give a list that holds, after the block, the lines written to file descriptors 1 and 2 inside it.

    The descriptors belong to the whole process, as with `native_output_logged`.

    Args:
        log: gets the lines too, at DEBUG.
    """
    lines: list[str] = []
    heard = logging.Logger("fastserve native words", logging.DEBUG)  # apart from all others
    heard.addHandler(_Lines(lines))
    try:
        with native_output_logged(heard):
            try:
                yield lines
            finally:
                _flush_native_streams()
    finally:
        for line in lines:
            log.debug("%s", line)


def _flush_native_streams() -> None:
    """Write out what C's own streams still hold: they keep more of it where no terminal is behind them."""
    if sys.platform != "win32":
        ctypes.CDLL(None).fflush(None)


class _Lines(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())
