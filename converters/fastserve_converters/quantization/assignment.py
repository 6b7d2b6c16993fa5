"""Which scheme each layer gets, so that the model loses least within limits: a multiple-choice knapsack.

Solved exactly as an integer program (HiGHS through `scipy.optimize.milp`), as HAWQ-V3 does (arXiv 2011.10680).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from fastserve_converters.precisions import WeightScheme
from fastserve_runtime.errors import UsageError


@dataclass(frozen=True)
class Option:
    """One scheme for some layers: what it loses and what it takes.

    Attributes:
        scheme: None for float.
        loss: relative squared error of the model's output.
        size: bytes of the weights.
    """

    scheme: WeightScheme | None
    loss: float
    size: int


@dataclass(frozen=True)
class Unit:
    """Layers that must have the same scheme, since they run on one input and exporters join them.

    Attributes:
        layers: torch module names.
        macs: multiply-accumulates for a token; 0 for an embedding.
        options: the schemes that they may have.
    """

    layers: tuple[str, ...]
    macs: int
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Cost:
    """What the options of every unit cost, and the most that the chosen ones may cost together."""

    by_option: Sequence[Sequence[float]]
    limit: float
    unit: str


def choose(units: Sequence[Unit], costs: Sequence[Cost]) -> dict[str, WeightScheme | None]:
    """Return layer → scheme, losing least within the costs' limits; None is float.

    Raises:
        UsageError: no assignment is within the limits.
    """
    picked = min_loss([[option.loss for option in unit.options] for unit in units], costs)
    return {layer: unit.options[i].scheme for unit, i in zip(units, picked, strict=True) for layer in unit.layers}


def size_cost(units: Sequence[Unit], limit: float) -> Cost:
    """Return the cost of bytes."""
    return Cost([[option.size for option in unit.options] for unit in units], limit, "bytes")


def time_cost(units: Sequence[Unit], seconds: Mapping[WeightScheme | None, float], limit: float) -> Cost:
    """Return the cost of time, predicted: each layer takes its share of what a model all in one scheme takes.

    Args:
        units: the layers.
        seconds: scheme → the measured latency of the model with all linear layers in it.
        limit: seconds.
    """
    total = sum(unit.macs for unit in units) or 1
    unknown = max(seconds.values(), default=0.0)
    by_option = [[seconds.get(o.scheme, unknown) * unit.macs / total for o in unit.options] for unit in units]
    return Cost(by_option, limit, "seconds")


def min_loss(losses: Sequence[Sequence[float]], costs: Sequence[Cost]) -> list[int]:
    """Choose one option for every unit.

    Args:
        losses: for each unit, what each option loses; at least 0.
        costs: limits to keep to.

    Returns:
        The chosen option's place, for every unit.

    Raises:
        UsageError: no choice is within the limits.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    for cost in costs:
        cheapest = sum(min(options) for options in cost.by_option)
        if cheapest > cost.limit:
            raise UsageError(
                f"The layers' cheapest assignment takes {cheapest:.4g} {cost.unit}; "
                f"{max(cost.limit, 0):.4g} are left for them.",
                "Raise the limit.",
            )
    starts = np.concatenate([[0], np.cumsum([len(options) for options in losses])])
    pick_one = np.zeros((len(losses), starts[-1]))
    for unit, (start, end) in enumerate(pairwise(starts)):
        pick_one[unit, start:end] = 1
    constraints = [LinearConstraint(pick_one, 1, 1)]
    for cost in costs:
        # In shares of the limit, since the solver's tolerances are absolute; likewise the losses.
        shares = _joined(cost.by_option) / max(cost.limit, 1e-30)
        constraints.append(LinearConstraint(shares[None], -np.inf, 1.0))
    loss = _joined(losses)
    solved = milp(
        loss / max(float(loss.max()), 1e-30),
        integrality=np.ones_like(loss),
        bounds=Bounds(0, 1),
        constraints=constraints,
        options={"mip_rel_gap": 0},
    )
    if solved.x is None:
        limits = " and ".join(f"{cost.limit:.4g} {cost.unit}" for cost in costs)
        raise UsageError(f"No assignment of schemes to layers is within {limits}.", "Raise one of the limits.")
    return [int(np.argmax(solved.x[start:end])) for start, end in pairwise(starts)]


def units_document(units: Sequence[Unit]) -> list[dict[str, Any]]:
    """Return units as JSON; `parse_units` reads them back."""
    return [asdict(unit) for unit in units]


def parse_units(document: Sequence[Mapping[str, Any]]) -> tuple[Unit, ...]:
    """Read what `units_document` wrote."""
    return tuple(
        Unit(
            tuple(unit["layers"]),
            unit["macs"],
            tuple(
                Option(None if o["scheme"] is None else WeightScheme(**o["scheme"]), o["loss"], o["size"])
                for o in unit["options"]
            ),
        )
        for unit in document
    )


def _joined(options: Sequence[Sequence[float]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.concatenate([np.asarray(values, np.float64) for values in options])
