"""Which layers get one scale for their whole output, and what calibration samples look like."""

from __future__ import annotations

import numpy as np
import pytest

from fastserve_converters.formats.tflite.static import LEAST_RATIO, rounding_ratio
from fastserve_converters.quantization.calibration import single_samples


def test_samples_are_cut_behind_their_last_token() -> None:
    mask = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 0]], np.float32)
    given = {"input_ids": np.arange(12).reshape(3, 4), "attention_mask": mask}
    cut = list(single_samples(given, least_tokens=2))
    assert [s["input_ids"].tolist() for s in cut] == [[[0, 1]], [[4, 5, 6]], [[8, 9]]]


def test_a_channel_far_larger_than_the_rest_spoils_one_scale_for_all() -> None:
    values = np.random.default_rng(0).normal(size=(500, 64)).astype(np.float32)
    even = rounding_ratio(values, 8)
    values[:, 3] *= 40
    assert rounding_ratio(values, 8) < LEAST_RATIO < even
    assert rounding_ratio(values, 16) > LEAST_RATIO
    # A uniform variable of width w has variance w²/12: 20 log10(255) dB.
    uniform = np.linspace(0, 1, 10_001, dtype=np.float32)[:, None]
    assert rounding_ratio(uniform, 8) == pytest.approx(20 * np.log10(255), abs=0.01)
    assert rounding_ratio(np.zeros((3, 3), np.float32), 8) == np.inf
