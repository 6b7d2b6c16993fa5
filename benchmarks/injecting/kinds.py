"""All kinds of faults."""

from __future__ import annotations

from injecting.calls import CALL_FAULTS
from injecting.fault import Fault
from injecting.files import FILE_FAULTS
from injecting.network_faults import NETWORK_FAULTS
from injecting.texts import TEXT_FAULTS

FAULTS: tuple[Fault, ...] = (*NETWORK_FAULTS, *CALL_FAULTS, *TEXT_FAULTS, *FILE_FAULTS)


def find_fault(name: str) -> Fault:
    """Return the fault of a name."""
    return next(f for f in FAULTS if f.name == name)
