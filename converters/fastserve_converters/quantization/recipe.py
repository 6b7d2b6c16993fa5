"""What a manifest says of how its weights and activations were quantized."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastserve_converters.precisions import Precision


def recipe_document(
    plan: Precision, assignment: Mapping[str, Any] | None, samples: int, range_method: str | None = None
) -> dict[str, Any]:
    """Return what a manifest's recipe says of a precision: width, schemes, activations, rounding, calibration.

    Args:
        plan: the precision.
        assignment: for a mixed precision, layer → the fields of its scheme.
        samples: how many calibration samples were looked at.
        range_method: how the ranges of activations were found, where they are set beforehand.
    """
    calibration: dict[str, Any] | None = None
    if samples:
        calibration = {"samples": samples, "uses": list(plan.calibration_uses)}
        if plan.has_static_ranges:
            calibration["ranges"] = range_method
    return {
        "width": plan.width,
        "linear": None if plan.linear is None else plan.linear.name,
        "embedding": None if plan.embedding is None else plan.embedding.name,
        "activations": plan.activations,
        "rounding": plan.rounding,
        "calibration": calibration,
        "assignment": None if assignment is None else dict(assignment),
    }
