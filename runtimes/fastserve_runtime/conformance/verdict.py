"""What a check of an artifact ended with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

PREPROCESSING = "preprocessing"
PIPELINE = "pipeline"
"""Whether the task's pipeline takes the golden's texts; only told where it does not."""
QUALITY = "quality"
"""Against the reference: is the compressed model still the model?"""
EXECUTOR = "executor"
"""Against what the same artifact gave on the building machine: does this executor compute it right?"""


class Outcome(Enum):
    """How a check ended. NOT_RUN is never a pass."""

    PASS = "PASS"  # noqa: S105
    OUTPUT_MISMATCH = "OUTPUT_MISMATCH"
    FELL_BACK = "FELL_BACK"
    LOAD_FAILED = "LOAD_FAILED"
    RUN_FAILED = "RUN_FAILED"
    OVER_BUDGET = "OVER_BUDGET"
    NOT_RUN = "NOT_RUN"

    @property
    def is_failure(self) -> bool:
        """Whether something was found wrong; neither PASS nor NOT_RUN is."""
        return self not in {Outcome.PASS, Outcome.NOT_RUN}


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check of one variant on one target, with the figures that it rests on."""

    variant: str
    target: str
    check: str
    outcome: Outcome
    message: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def detail(self) -> str:
        """The message and the figures in one line."""
        figures = ", ".join(f"{k.replace('_', ' ')} {v:.4g}" for k, v in self.figures.items())
        return "; ".join(x for x in (self.message, figures) if x)

    def as_document(self) -> dict[str, Any]:
        """Return the verdict as JSON fields; figures that are not finite become strings."""
        figures = figures_document(self.figures)
        return {
            "variant": self.variant,
            "target": self.target,
            "check": self.check,
            "outcome": self.outcome.value,
            "message": self.message,
            "figures": figures,
        }


def figures_document(figures: Mapping[str, float]) -> dict[str, float | str]:
    """Return figures as JSON fields; those that are not finite become strings."""
    return {name: value if math.isfinite(value) else str(value) for name, value in figures.items()}
