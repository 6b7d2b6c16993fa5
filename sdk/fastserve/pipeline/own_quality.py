"""Quality as the user's own function judges it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from fastserve_runtime.errors import UsageError, one_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[np.generic]]

OwnQuality = Callable[["Arrays", "Arrays", "Arrays"], float]
"""Gets inputs, the reference's outputs and a variant's, samples along the first axis; 1 is as good as it."""

OWN_QUALITY_NAME = "your quality"


def judged_quality(judge: OwnQuality, inputs: Arrays, reference: Arrays, actual: Arrays) -> float:
    """Return what the user's function makes of a variant's outputs.

    Raises:
        UsageError: it fails, or gives no finite number.
    """
    try:
        value = float(judge(inputs, reference, actual))
    except Exception as error:  # it is the user's code
        raise UsageError(
            f"Your quality function failed: {type(error).__name__}: {one_line(error)[:200]}",
            "It is called with inputs, the reference's outputs and a variant's, each arrays by name.",
        ) from error
    if not math.isfinite(value):
        raise UsageError(
            f"Your quality function gave {value}.", "Let it give a number, 1 for as good as the reference."
        )
    return value
