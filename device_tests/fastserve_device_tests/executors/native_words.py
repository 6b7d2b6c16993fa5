"""What an engine's native code prints while something is done, to be read as well as logged.

Some engines tell nothing but in such words: which operators went where, or why a model was refused.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from fastserve_runtime.engine_logs import native_output_logged


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
            yield lines
    finally:
        for line in lines:
            log.debug("%s", line)


class _Lines(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())
