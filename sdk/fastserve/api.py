"""What devices and planners of other packages are written with.

These names stay; modules behind them may move. Each comes with its module when it is first used (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastserve_runtime.faces import face

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

__getattr__, __dir__ = face(
    __name__,
    "fastserve",
    {
        "devices": "Device EngineThere MeasurementJob OUTPUTS",
        "search.budget": "Budget",
        "search.candidate": "Candidate",
        "search.planners": "CannotPropose Planner Space",
    },
)
