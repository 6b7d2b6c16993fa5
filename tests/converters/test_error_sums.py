"""Figures of an error beside its signal."""

from __future__ import annotations

import numpy as np
import pytest

from fastserve_converters.error_sums import ErrorSums, ratio_db


def test_another_shape_is_an_infinite_error() -> None:
    sums = ErrorSums()
    sums.add(0, np.ones((2, 3)), np.ones((2, 4)))
    sums.add(1, np.ones((2, 3)), np.ones((2, 3)))
    document = sums.as_document()
    assert (document["sqnr_db"], document["worst_sample"], document["channel"]) == (-999, 0, 0)


@pytest.mark.parametrize(
    ("signal", "noise", "ratio"),
    [(1, 0, np.inf), (0, 0, np.inf), (0, 1, -np.inf), (1, np.inf, -np.inf), (100, 1, 20)],
)
def test_ratios_of_powers(signal: float, noise: float, ratio: float) -> None:
    assert ratio_db(signal, noise) == ratio
