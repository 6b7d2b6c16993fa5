"""What is on standard input, as UTF-8 whatever the locale says. Bytes that are none become replacement characters."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator


def standard_input_lines() -> Iterator[str]:
    """Yield the lines of standard input, without their ends."""
    stream = sys.stdin
    if stream is None:
        return
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding="utf-8-sig", errors="replace")
    for line in stream:
        yield line.rstrip("\r\n")


def standard_input_text() -> str:
    """Return all of standard input, with its line ends as they are."""
    stream = sys.stdin
    if stream is None:
        return ""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding="utf-8-sig", errors="replace", newline="")
    return stream.read()
