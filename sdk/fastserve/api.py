"""What devices and planners of other packages are written with.

These names stay; modules behind them may move. Each comes with its module when it is first used (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastserve_runtime.faces import attributes_of, places_of

if TYPE_CHECKING:
    from fastserve.devices import OUTPUTS, Device, EngineThere, MeasurementJob
    from fastserve.search.budget import Budget
    from fastserve.search.candidate import Candidate
    from fastserve.search.planners import CannotPropose, Planner, Space

__all__ = [
    "OUTPUTS",
    "Budget",
    "Candidate",
    "CannotPropose",
    "Device",
    "EngineThere",
    "MeasurementJob",
    "Planner",
    "Space",
]

__getattr__ = attributes_of(
    __name__,
    places_of(
        "fastserve",
        {
            "devices": "Device EngineThere MeasurementJob OUTPUTS",
            "search.budget": "Budget",
            "search.candidate": "Candidate",
            "search.planners": "CannotPropose Planner Space",
        },
    ),
)


def __dir__() -> list[str]:
    return sorted(__all__)
