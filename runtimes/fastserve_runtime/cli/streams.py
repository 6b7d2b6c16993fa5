"""Printing: results on standard output, messages on standard error, and no traceback when a reader has gone.

What is shown may come from a bundle that nobody vouches for, so that control characters are written as escapes.
"""

from __future__ import annotations

import io
import json
import os
import sys
import unicodedata
from typing import Any, TextIO

_STEERING_CATEGORIES = {"Cc", "Cs", "Zl", "Zp"}
_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def prepare_streams() -> None:
    """Let characters that the terminal's encoding lacks be written as escapes instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def show(text: str) -> None:
    """Print a result.

    A reader that has gone (`| head`) wants no more of it: the rest is dropped, and the exit code stays the command's.

    Raises:
        OSError: it cannot be written, as on a full disk.
    """
    _write(sys.stdout, text)


class ShownText:
    """A text that is shown while it comes.

    Attributes:
        is_read: whether somebody still reads it.
    """

    def __init__(self) -> None:
        self.is_read = True

    def add(self, piece: str) -> None:
        """Print a piece at once, if it is still read.

        On a terminal, characters that steer it are shown as escapes, except for line ends and tabs, so that what a
        model was made to say cannot act on it. Files and other programs get the text as it is.

        Raises:
            OSError: it cannot be written, as on a full disk.
        """
        shown = printable_lines(piece) if is_terminal(sys.stdout) else piece
        self.is_read = self.is_read and _write(sys.stdout, shown, end="")


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody reads, or types, at a terminal."""
    return stream is not None and stream.isatty()


def show_document(document: Any) -> None:
    """Print one JSON document as the result."""
    show(json.dumps(document, indent=2))


def tell(text: str, *, end: str = "\n") -> None:
    """Print a message on standard error; one that cannot be written is lost."""
    try:
        _write(sys.stderr, text, end)
    except OSError:
        return


def flush_streams() -> None:
    """Write out what is still buffered, and drop it where nobody reads it."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            try:
                stream.flush()
            except OSError:
                drop(stream)


def printable(text: str) -> str:
    """Return a text on one line; characters that steer a terminal, or turn its writing direction, are escaped."""
    return "".join(c.encode("unicode_escape").decode("ascii") if _is_steering(c) else c for c in text)


def printable_lines(text: str) -> str:
    """Return a text as `printable` does, with its line ends and tabs as they are."""
    return "".join(c if c in "\n\t" else printable(c) for c in text)


def _is_steering(character: str) -> bool:
    return unicodedata.category(character) in _STEERING_CATEGORIES or character in _DIRECTIONS


def _write(stream: TextIO | None, text: str, end: str = "\n") -> bool:
    """Write, and return whether it was still read."""
    if stream is None:
        return False
    try:
        print(text, file=stream, end=end, flush=True)
    except BrokenPipeError:
        drop(stream)
        return False
    except OSError:
        drop(stream)
        raise
    return True


def drop(stream: TextIO) -> None:
    """Point a stream at nothing, so that what it still holds does not fail again when Python ends."""
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
    except OSError:
        return
