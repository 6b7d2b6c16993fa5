"""A process and all that it started, and the memory that they hold, where the system tells it (Linux, proc(5))."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_ANONYMOUS = re.compile(r"^RssAnon:\s+(\d+) kB$", re.MULTILINE)


def held_by_family(pid: int) -> int:
    """Return how many bytes of their own a process and those that it started hold in memory (`RssAnon`)."""
    return sum(map(_held, _family(pid)))


def _family(pid: int) -> Iterator[int]:
    yield pid
    try:
        words = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # it has just ended, or the system has no such files
        return
    for child in " ".join(words).split():
        yield from _family(int(child))


def _held(pid: int) -> int:
    try:
        found = _ANONYMOUS.search(Path(f"/proc/{pid}/status").read_text())
    except OSError:  # it has just ended, or the system tells it in another way
        return 0
    return 0 if found is None else int(found[1]) * 1024
