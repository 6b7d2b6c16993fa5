"""What devices of other packages are written with.

These names stay; modules behind them may move. Each comes with its module when it is first used (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastserve_runtime.faces import attributes_of, places_of

if TYPE_CHECKING:
    from fastserve.devices import OUTPUTS, Device, MeasurementJob

__all__ = [
    "OUTPUTS",
    "Device",
    "MeasurementJob",
]

__getattr__ = attributes_of(
    __name__,
    places_of(
        "fastserve",
        {
            "devices": "Device MeasurementJob OUTPUTS",
        },
    ),
)


def __dir__() -> list[str]:
    return sorted(__all__)
