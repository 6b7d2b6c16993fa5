"""What the outputs of a classifier mean, as `problem_type` of Transformers' configs says."""

from __future__ import annotations

from collections.abc import Mapping

REGRESSION, MULTI_LABEL = "regression", "multi_label_classification"
"""Any other one means labels that exclude each other."""
USUAL_ACTIVATIONS: Mapping[str, str] = {REGRESSION: "identity", MULTI_LABEL: "sigmoid"}
"""Problem type → what makes its logits scores; softmax for others."""


def problem_type(named: str | None, labels: int) -> str | None:
    """Return the problem type that a config means: one output is a value unless it says otherwise."""
    return REGRESSION if labels == 1 and named != MULTI_LABEL else named
