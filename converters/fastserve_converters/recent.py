"""Things that take long to make, of which the last few stay in memory."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Made = TypeVar("Made")


class Recent(Generic[Made]):
    """Keeps the last few things that were made, by what they were made of."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._made: dict[Hashable, Made] = {}

    def get(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """Return what belongs to a key, made now if it is not kept; then the oldest goes where there are too many."""
        if key not in self._made:
            self._made[key] = make()
            if len(self._made) > self._most:
                del self._made[next(iter(self._made))]
        return self._made[key]
