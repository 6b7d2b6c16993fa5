"""Proof that what is exported computes what the original does: their outputs, side by side."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch

from fastserve_runtime.errors import EnvironmentFailure

Tensors = Mapping[str, torch.Tensor]


def largest_differences(pairs: Iterable[tuple[Tensors, Tensors]]) -> dict[str, float]:
    """Return the largest difference of each output over some cases, infinite where one is not a number.

    Args:
        pairs: the original's outputs and the exportable model's, of one shape.
    """
    largest: dict[str, float] = {}
    with torch.no_grad():
        for expected, actual in pairs:
            for name, values in expected.items():
                difference = float((actual[name] - values).abs().max())
                # max() passes over NaN.
                found = math.inf if math.isnan(difference) else difference
                largest[name] = max(largest.get(name, 0.0), found)
    return largest


def are_within(differences: Mapping[str, float], scales: Mapping[str, float], tolerance: float) -> bool:
    """Whether the differences of all outputs are within a share of their scales."""
    return all(difference <= tolerance * scales[name] for name, difference in differences.items())


def different(difference: float, tolerance: float, remedy: str) -> EnvironmentFailure:
    """Return the failure that an exportable model is another model than the original."""
    return EnvironmentFailure(
        f"The exportable model differs from the original by {difference:.2g}, more than {tolerance:g}.",
        remedy,
    )
