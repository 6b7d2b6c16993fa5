"""What a model's own process may use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a model's own process may use; see `open_model`.

    Attributes:
        seconds: how long it may take for one answer, loading included; None for no limit.
        memory: bytes of address space, which is more than the memory really used; None for no limit. Kept where the
            system can (`RLIMIT_AS`), ignored on Windows.
    """

    seconds: float | None = None
    memory: int | None = None
