"""One thing to do, described without doing it: what it is, what it needs, and what decides its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from fastserve.cache.records import Entry

if TYPE_CHECKING:
    from fastserve.pipeline.workshop import Workshop

Made = Mapping[str, Entry]
"""What a step's needs gave, by the names that the step has for them."""


class Work(Protocol):
    """How a kind of step is done; see `fastserve.pipeline.work`."""

    def key(self, made: Made) -> dict[str, Any]:
        """Return all that decides the result, JSON: inputs by content, settings, versions of tools, code."""

    def do(self, made: Made, out: Path, workshop: Workshop) -> Any:
        """Write the files into the empty folder `out`, and return the result, JSON.

        Raises:
            FastServeError: it cannot be done.
        """


@dataclass(frozen=True, eq=False)
class Step:
    """One thing to do.

    Attributes:
        kind: the folder of the cache that its results are in.
        title: what users are told while it runs.
        weight: expected share of the time, in seconds on an ordinary machine; only proportions matter.
        work: how it is done.
        needs: the steps whose results it reads, by the names that `work` has for them.
        is_fresh: whether it is done again where its result is in the cache.
        attempts: how often it is tried where the process that does it dies.
    """

    kind: str
    title: str
    weight: float
    work: Work
    needs: Mapping[str, Step] = field(default_factory=lambda: MappingProxyType({}))
    is_fresh: bool = False
    attempts: int = 1
