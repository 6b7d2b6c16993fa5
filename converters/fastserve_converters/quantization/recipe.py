"""What a manifest says of how its weights and activations were quantized."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastserve_converters.precisions import Precision


def recipe_document(
    precision_spec: Precision, assignment: Mapping[str, Any] | None, samples: int, range_method: str | None = None
) -> dict[str, Any]:
    """Return what a manifest's recipe says of a precision: width, schemes, activations, rounding, calibration.

    Args:
        precision_spec: the precision.
        assignment: for a mixed precision, layer → the fields of its scheme.
        samples: how many calibration samples were looked at.
        range_method: how the ranges of activations were found, where they are set beforehand.
    """
    calibration: dict[str, Any] | None = None
    if samples:
        calibration = {"samples": samples, "uses": list(precision_spec.calibration_uses)}
        if precision_spec.has_static_ranges:
            calibration["ranges"] = range_method
    return {
        "width": precision_spec.width,
        "linear": None if precision_spec.linear is None else precision_spec.linear.name,
        "embedding": None if precision_spec.embedding is None else precision_spec.embedding.name,
        "activations": precision_spec.activations,
        "rounding": precision_spec.rounding,
        "calibration": calibration,
        "assignment": None if assignment is None else dict(assignment),
    }
