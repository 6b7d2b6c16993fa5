"""Refitted scales and integers chosen again leave a smaller error of a layer's output, on the same grid."""

from __future__ import annotations

import numpy as np
import pytest

from fastserve_converters.precisions import WeightScheme
from fastserve_converters.quantization.descent import improved, output_error, refitted
from fastserve_converters.quantization.gptq import round_layer
from fastserve_converters.quantization.weights import quantize_nearest
from fastserve_converters.quantized_weight import QuantizedWeight

SCHEMES = [
    WeightScheme(4, 16, scale="bfloat16"),
    WeightScheme(4, 16, symmetric=False),
    WeightScheme(4, 16, symmetric=False, scale="float16"),
    WeightScheme(4),
]


@pytest.fixture
def layer() -> tuple[np.ndarray, np.ndarray]:
    """A weight, and the second moments of inputs that are correlated."""
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(400, 20)) @ generator.normal(size=(20, 64)) + generator.normal(size=(400, 64)) * 0.3
    moments = inputs.T @ inputs / len(inputs)
    return generator.normal(size=(80, 64)).astype(np.float32), moments.astype(np.float32)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: f"{s.name}-{s.scale}")
def test_the_error_of_the_output_shrinks(layer: tuple[np.ndarray, np.ndarray], scheme: WeightScheme) -> None:
    weight, moments = layer
    nearest = quantize_nearest(weight, scheme)
    before = output_error(weight, moments, nearest)
    after = improved(weight, moments, nearest)
    assert output_error(weight, moments, refitted(weight, moments, nearest)) < before
    assert output_error(weight, moments, after) < 0.5 * before
    assert after.values.min() >= -8
    assert after.values.max() <= 7
    assert (after.scale > 0).all()
    assert np.array_equal(after.zero_point, nearest.zero_point)
    if scheme.scale == "bfloat16":
        assert (after.scale.view(np.uint32) & 0xFFFF == 0).all(), "scales are as they are stored"


def test_error_is_what_the_outputs_differ_by() -> None:
    generator = np.random.default_rng(1)
    inputs = generator.normal(size=(50, 16)).astype(np.float32)
    weight = generator.normal(size=(3, 16)).astype(np.float32)
    found = quantize_nearest(weight, WeightScheme(4))
    expected = np.square(inputs @ (found.dequantized() - weight).T).sum() / len(inputs)
    assert output_error(weight, inputs.T @ inputs / len(inputs), found) == pytest.approx(expected, rel=1e-4)


def test_scales_that_were_spoilt_are_found_again(layer: tuple[np.ndarray, np.ndarray]) -> None:
    weight, moments = layer
    good = round_layer(weight, moments, WeightScheme(4, 16))
    spoilt = QuantizedWeight(good.values, good.scale * np.float32(1.5), good.zero_point, good.scheme)
    again = refitted(weight, moments, spoilt)
    assert output_error(weight, moments, again) < 1.05 * output_error(weight, moments, good)


def test_a_group_of_zeros_keeps_its_scale() -> None:
    weight = np.zeros((2, 32), np.float32)
    weight[:, 16:] = np.linspace(-1, 1, 16)
    found = improved(weight, np.eye(32, dtype=np.float32), quantize_nearest(weight, WeightScheme(4, 16)))
    assert (found.dequantized()[:, :16] == 0).all()
    assert np.isfinite(found.scale).all()
