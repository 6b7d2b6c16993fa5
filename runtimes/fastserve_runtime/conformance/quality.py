"""How good a variant is at its task, as one number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Quality:
    """How good a variant is, as one number of its task.

    Attributes:
        name: what the number is.
        value: 1 is as good as the reference.
        low: lower end of its 95 % bootstrap interval.
        high: upper end.
        samples: how many evaluation samples it rests on.
        beside: other figures worth seeing, by name; the same figure of the reference is called `reference_name`.
    """

    name: str
    value: float
    low: float
    high: float
    samples: int
    beside: Mapping[str, float] = field(default_factory=dict)


def reference_name(name: str) -> str:
    """Return what a figure of the reference is called beside a variant's own."""
    return f"reference's {name}"
