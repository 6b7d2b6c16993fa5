"""What a process of its own may use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a process of its own may use; see `open_model`.

    Attributes:
        seconds: how long it may take for one answer, loading included; None for no limit.
        memory: bytes of address space, which is more than the memory really used; None for no limit. Kept where the
            system can (`RLIMIT_AS`), ignored on Windows.
        resident: bytes of their own that it and all that it started may hold in memory (`RssAnon`); None for no limit.
            For what reserves far more address space than it uses, as drivers do. Kept on Linux.
    """

    seconds: float | None = None
    memory: int | None = None
    resident: int | None = None
