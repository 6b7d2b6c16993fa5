"""Figures of an error beside its signal."""

from __future__ import annotations

import numpy as np
import pytest

from fastserve_converters.diagnosis.error_sums import ErrorSums, ratio_db


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


def test_what_rounding_rows_to_8_bits_costs_is_what_it_does_cost() -> None:
    generator = np.random.default_rng(3)
    rows = generator.normal(size=(400, 64)) * generator.uniform(0.1, 10, (400, 1))
    scale = np.abs(rows).max(-1, keepdims=True) / 127
    sums = ErrorSums()
    sums.add(0, rows, np.round(rows / scale) * scale)
    document = sums.as_document()
    assert document["rounded_sqnr_db"] == pytest.approx(document["sqnr_db"], abs=0.2)
    sums = ErrorSums()
    sums.add(0, np.ones(3), np.ones(3))
    assert sums.as_document()["rounded_sqnr_db"] is None
