"""What a part of a model gives: arrays by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

Outputs = Mapping[str, NDArray[np.floating]]
"""Outputs by name, shape [samples, ...]."""


def joined_outputs(parts: Iterable[Outputs]) -> dict[str, NDArray[np.float32]]:
    """Return outputs of several samples, one behind the other, shape [samples, ...] each."""
    listed = list(parts)
    return {name: np.concatenate([np.asarray(part[name], np.float32) for part in listed]) for name in listed[0]}
