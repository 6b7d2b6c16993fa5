"""Keeping engines quiet: what native code prints to standard error goes to Python logging instead."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def native_output_logged(logger: logging.Logger) -> Iterator[None]:
    """Send what is written to file descriptors 1 and 2 inside the block to `logger` at DEBUG.

    The descriptors belong to the whole process: use it only around short calls such as loading a model.
    """
    # A process without a console or with closed descriptors has no such streams.
    saved = [(fd, os.dup(fd)) for fd, stream in ((1, sys.__stdout__), (2, sys.__stderr__)) if stream is not None]
    _flush()
    try:
        with tempfile.TemporaryFile() as captured:
            for fd, _ in saved:
                os.dup2(captured.fileno(), fd)
            try:
                yield
            finally:
                _flush()
                for fd, copy in saved:
                    os.dup2(copy, fd)
                captured.seek(0)
                for line in captured.read().decode(errors="replace").splitlines():
                    logger.debug("%s", line)
    finally:
        for _, copy in saved:
            os.close(copy)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
