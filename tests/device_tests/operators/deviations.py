"""What engines are known to compute otherwise than defined; a test fails where one disappears, is new, or has grown."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Deviations = Mapping[str, float]
"""Filling → the largest error, in units of the case; infinity where a NaN or an infinity is lost or made."""

LOST = np.inf
ROOM = 1.25
"""Errors may be so many times as large as on the machine where they were found: XNNPACK has kernels for each."""


def differences(found: Deviations, known: Deviations) -> list[str]:
    """Return what is not as it is known, in words."""
    news = [f"new: {name} ({found[name]:.4g})" for name in sorted(found.keys() - known.keys())]
    gone = [f"gone: {name}" for name in sorted(known.keys() - found.keys())]
    grown = [
        f"grown: {name} ({found[name]:.4g}, known {known[name]:.4g})"
        for name in sorted(found.keys() & known.keys())
        if found[name] > known[name] * ROOM
    ]
    return news + gone + grown
