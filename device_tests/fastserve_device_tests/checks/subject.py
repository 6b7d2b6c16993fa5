"""What the checks look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastserve_device_tests.targets import Target
from fastserve_runtime.bundle.evaluation import Evaluation
from fastserve_runtime.bundle.golden import Golden
from fastserve_runtime.bundle.manifest import Variant
from fastserve_runtime.conformance.policy import Judgement
from fastserve_runtime.conformance.verdict import Outcome, Verdict
from fastserve_runtime.sessions.session import Session


@dataclass(frozen=True)
class Subject:
    """A variant, opened on a target, with the golden samples of its task, and those by which its metric is taken.

    Attributes:
        task_settings: the manifest's, which say what the outputs mean.
    """

    task: str
    variant: Variant
    golden: Golden
    session: Session
    target: Target
    evaluation: Evaluation | None = None
    task_settings: Mapping[str, Any] = field(default_factory=dict)

    def verdict(self, check: str, judgement: Judgement, message: str = "") -> Verdict:
        """Return the verdict of a comparison; the message tells what a mismatch means."""
        if judgement.passed:
            return Verdict(self.variant.id, self.target.NAME, check, Outcome.PASS, figures=judgement.figures)
        text = f"{message}{judgement.reason}"
        return Verdict(self.variant.id, self.target.NAME, check, Outcome.OUTPUT_MISMATCH, text, judgement.figures)
