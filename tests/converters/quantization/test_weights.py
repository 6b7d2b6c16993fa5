"""Quantized matrices: their parameters, their errors, and what they take."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fastserve_converters.precisions import WeightScheme
from fastserve_converters.quantization.weights import (
    fits,
    pair_sums,
    quantization_parameters,
    quantize_nearest,
    rounded,
    stored_bytes,
)
from fastserve_converters.quantized_weight import QuantizedWeight

SCHEMES = [
    WeightScheme(8),
    WeightScheme(8, 8),
    WeightScheme(8, 8, False),
    WeightScheme(4, 8),
    WeightScheme(4, 8, False),
]
MATRICES = arrays(np.float32, (3, 16), elements=st.floats(-1e3, 1e3, width=32))


@given(MATRICES, st.sampled_from(SCHEMES))
def test_quantized_weights_stay_in_range_and_zero_stays_zero(weight: np.ndarray, scheme: WeightScheme) -> None:
    found = quantize_nearest(weight, scheme)
    minimum, maximum = (-127, 127) if scheme.bits == 8 else (-8, 7)
    assert found.values.min() >= minimum
    assert found.values.max() <= maximum
    assert (found.zero_point == 0).all() or not scheme.symmetric
    assert found.scale.shape == found.zero_point.shape == (3, 16 // (scheme.group or 16))
    assert (found.scale > 0).all()
    # Zero is on the grid, so a pruned weight stays exactly zero.
    assert (found.dequantized()[weight == 0] == 0).all()


@given(MATRICES, st.sampled_from([WeightScheme(8), WeightScheme(8, 8), WeightScheme(8, 8, False)]))
def test_eight_bits_are_off_by_half_a_step_at_most(weight: np.ndarray, scheme: WeightScheme) -> None:
    found = quantize_nearest(weight, scheme)
    step = np.repeat(found.scale, 16 // found.scale.shape[1], axis=1)
    # A rounded zero point may cost another half step at the ends of an asymmetric range.
    maximum = 0.5 if scheme.symmetric else 1.0
    assert (np.abs(found.dequantized() - weight) <= maximum * step * (1 + 1e-4) + 1e-6).all()


@given(
    arrays(np.float32, st.tuples(st.just(3), st.integers(1, 17)), elements=st.floats(-1e3, 1e3, width=32)),
    st.integers(127, 254),
)
def test_pairs_of_columns_keep_to_a_limit(weight: np.ndarray, limit: int) -> None:
    free = quantize_nearest(weight, WeightScheme(8))
    found = quantize_nearest(weight, WeightScheme(8, pair_limit=limit))
    assert (pair_sums(found.values) <= limit).all()
    assert (np.abs(found.dequantized() - weight) <= 0.5 * found.scale * (1 + 1e-4) + 1e-6).all()
    fits_already = pair_sums(free.values) <= limit
    np.testing.assert_array_equal(found.values[fits_already], free.values[fits_already])


def test_a_limit_on_pairs_costs_what_it_takes_and_no_more() -> None:
    alternating = np.tile(np.array([1, -1], np.float32), 8)[None]
    scheme = WeightScheme(8, pair_limit=128)
    assert np.abs(quantize_nearest(alternating, scheme).values).max() == 127, "products of two signs cannot add up"
    assert np.abs(quantize_nearest(np.abs(alternating), scheme).values).max() == 64
    normal = np.random.default_rng(0).standard_normal((64, 384)).astype(np.float32)
    free, limited, halved = (
        np.square(q.dequantized() - normal).sum()
        for q in (
            quantize_nearest(normal, WeightScheme(8)),
            quantize_nearest(normal, scheme),
            _in_seven_bits(normal),
        )
    )
    assert limited < 1.8 * free < 0.5 * halved


def test_a_zero_point_uses_the_whole_range_for_values_of_one_sign() -> None:
    weight = np.linspace(1, 2, 32, dtype=np.float32)[None]
    symmetric, asymmetric = (
        quantize_nearest(weight, WeightScheme(4, 32, is_symmetric)).dequantized() for is_symmetric in (True, False)
    )
    assert np.square(asymmetric - weight).sum() < np.square(symmetric - weight).sum() / 2


def test_smaller_groups_lose_less() -> None:
    weight = np.random.default_rng(0).standard_t(3, (8, 128)).astype(np.float32)
    errors = [
        np.square(quantize_nearest(weight, WeightScheme(4, g)).dequantized() - weight).sum() for g in (16, 32, 128)
    ]
    assert errors == sorted(errors)


def test_one_outlier_is_cut_off_where_that_loses_less() -> None:
    weight = np.random.default_rng(0).normal(size=(1, 512)).astype(np.float32)
    weight[0, 0] = 6
    found = quantize_nearest(weight, WeightScheme(4, 512))
    assert found.scale[0, 0] < 6 / 8
    assert np.abs(found.dequantized()).max() < 6


def test_important_columns_are_rounded_more_carefully() -> None:
    weight = np.random.default_rng(1).normal(size=(4, 1, 64)).astype(np.float32)
    weight[..., 0] *= 4
    importance = np.full((1, 1, 64), 1e-3, np.float32)
    importance[..., 0] = 1e3
    scheme = WeightScheme(4, 64)
    errors = []
    for matters in (None, importance):
        scale, zero = quantization_parameters(weight, scheme, matters)
        found = rounded(weight, scale, zero, scheme) * scale[..., None]
        errors.append(np.square(found - weight)[..., 0].sum())
    assert errors[1] < errors[0]


@pytest.mark.parametrize(
    ("scheme", "size"),
    [
        (None, 3 * 64 * 4),
        (WeightScheme(8), 3 * 64 + 3 * 4),
        (WeightScheme(4, 32), 3 * 32 + 6 * 4),
        (WeightScheme(4, 32, False), 3 * 32 + 6 * 4 + 3),
        (WeightScheme(4, 32, scale="float16", minimum=True), 3 * 32 + 6 * 4),
    ],
)
def test_bytes_are_integers_scales_and_zero_points(scheme: WeightScheme | None, size: int) -> None:
    assert stored_bytes((3, 64), scheme) == size


def test_columns_must_make_whole_groups() -> None:
    assert fits((3, 64), WeightScheme(4, 32))
    assert not fits((3, 48), WeightScheme(4, 32))
    assert fits((3, 5), WeightScheme(8))


def test_minima_are_added_to_their_groups() -> None:
    scheme = WeightScheme(4, 2, minimum=True)
    weight = QuantizedWeight(
        values=np.array([[-8, 7, 0, 1]], np.int8),
        scale=np.array([[2.0, 0.5]], np.float32),
        zero_point=np.full((1, 2), -8, np.int8),
        scheme=scheme,
        minimum=np.array([[-1.0, 3.0]], np.float32),
    )
    assert weight.dequantized().tolist() == [[-1.0, 29.0, 7.0, 7.5]]
    assert scheme.name == "int4-g2-minimum"


def _in_seven_bits(weight: np.ndarray) -> QuantizedWeight:
    scale = np.abs(weight).max(1, keepdims=True) / 63
    values = np.rint(weight / scale).astype(np.int8)
    return QuantizedWeight(values, scale, np.zeros_like(values[:, :1]), WeightScheme(8))
