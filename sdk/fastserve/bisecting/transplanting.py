"""Putting what is special in a shipped file into another export of the same model.

A file whose numbers were changed after its export differs from a fresh export in stretches of bytes. Where the fresh
export's own bytes of such a stretch are found in a third file, one that also gives what it computes inside, the
shipped bytes take their place there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_GAP = 256
"""Differences that are nearer than so many bytes are one stretch."""
_CONTEXTS = (64, 16, 0)
"""So many bytes around a stretch are looked for with it: constants may stand in another order."""
_MIN = 16
"""Shorter stretches, with their context, could be found by chance."""


@dataclass(frozen=True)
class Transplant:
    """A file with the bytes of another.

    Attributes:
        content: the file.
        stretches: how many were put into it.
        missing: how many had no place.
    """

    content: bytes
    stretches: int
    missing: int


def transplanted(shipped: bytes, fresh: bytes, other: bytes) -> Transplant | None:
    """Put what the shipped file has in another way than the fresh one into the other file.

    Returns:
        The other file, changed; None where shipped and fresh have not the same length, so that nothing is comparable.
    """
    if len(shipped) != len(fresh):
        return None
    content = bytearray(other)
    done = missing = 0
    pending = list(_stretches(shipped, fresh))
    while pending:
        start, end = pending.pop()
        place = _place(fresh, other, start, end)
        if place is not None:
            content[place : place + end - start] = shipped[start:end]
            done += 1
        elif end - start >= 2 * _MIN:
            middle = (start + end) // 2
            pending += [(start, middle), (middle, end)]
        else:
            missing += 1
    return Transplant(bytes(content), done, missing)


def _stretches(left: bytes, right: bytes) -> Iterator[tuple[int, int]]:
    differing = np.flatnonzero(np.frombuffer(left, np.uint8) != np.frombuffer(right, np.uint8))
    if not differing.size:
        return
    ends = np.flatnonzero(np.diff(differing) > _GAP)
    for first, last in zip([0, *(ends + 1)], [*ends, differing.size - 1], strict=True):
        yield int(differing[first]), int(differing[last]) + 1


def _place(fresh: bytes, other: bytes, start: int, end: int) -> int | None:
    """Return where the other file has a stretch of the fresh one, if that is certain."""
    for context in _CONTEXTS:
        first = max(0, start - context)
        wanted = fresh[first : end + context]
        if len(wanted) < _MIN:
            continue
        found = other.find(wanted)
        if found >= 0 and other.find(wanted, found + 1) < 0:
            return found + start - first
    return None
