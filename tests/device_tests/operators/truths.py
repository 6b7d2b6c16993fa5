"""What operators are defined to give, in float64, and the unit in which an error of theirs is counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import erf, expit

Array = np.ndarray[Any, np.dtype[Any]]
ULP = 2.0**-23
"""The distance of float32 from 1 to the next."""
MIN = 2.0**-149
"""The smallest float32."""


@dataclass(frozen=True)
class Truth:
    """Right values.

    Attributes:
        values: float64, or whole numbers.
        unit: what counts as an error of one, broadcast to the values.
    """

    values: Array
    unit: Array | float = 1.0


def floats(values: Array, magnitude: Array | None = None) -> Truth:
    """Return values whose unit is a float32's last place, at a magnitude where it is not the values' own."""
    values = np.asarray(values, np.float64)
    size = np.abs(values) if magnitude is None else np.asarray(magnitude, np.float64)
    with np.errstate(all="ignore"):
        return Truth(values, np.maximum(np.nan_to_num(size, posinf=3.4e38) * ULP, MIN))


def error(actual: Array, truth: Truth) -> float:
    """Return the largest error in units; infinity where a NaN or an infinity is lost or made, or a shape differs."""
    if actual.shape != np.shape(truth.values):
        return np.inf
    if actual.size == 0:
        return 0.0
    with np.errstate(all="ignore"):
        expected = np.asarray(truth.values)
        if np.issubdtype(actual.dtype, np.floating):
            expected = expected.astype(np.float64)
            expected = np.where(np.abs(expected) > np.finfo(np.float32).max, np.sign(expected) * np.inf, expected)
        are_same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
        difference = np.abs(actual.astype(np.float64) - expected.astype(np.float64)) / truth.unit
        found = np.where(are_same, 0.0, np.where(np.isnan(difference), np.inf, difference))
    return float(found.max())


def _wide(function: Any) -> Any:
    def computed(*values: Array) -> Truth:
        with np.errstate(all="ignore"):
            return floats(function(*(v.astype(np.float64) for v in values)))

    return computed


add = _wide(np.add)
subtract = _wide(np.subtract)
multiply = _wide(np.multiply)
divide = _wide(np.divide)
maximum = _wide(np.maximum)
minimum = _wide(np.minimum)
negate = _wide(np.negative)
square_root = _wide(np.sqrt)
reciprocal_root = _wide(lambda x: 1 / np.sqrt(x))
exponential = _wide(np.exp)
tangent = _wide(np.tanh)
logistic = _wide(expit)
rectified = _wide(lambda x: np.where(np.isnan(x), x, np.maximum(x, 0.0)))


def gelu(x: Array) -> Truth:
    """`x * Phi(x)` (arXiv 1606.08415); the factor loses its small values beside 1."""
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        # At -inf the product is not defined, and the limit is 0.
        values = np.where(np.isneginf(wide), np.nan, wide * 0.5 * (1 + erf(wide / np.sqrt(2))))
        return floats(values, np.abs(wide))


def gelu_of_tanh(x: Array) -> Truth:
    """Its approximation by a hyperbolic tangent."""
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        values = wide * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)))
        return floats(values, np.abs(wide))


def softmax(x: Array) -> Truth:
    """Over the last axis. A difference from the largest is rounded before its power is taken."""
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        largest = wide.max(-1, keepdims=True)
        powers = np.exp(wide - largest)
        values = powers / powers.sum(-1, keepdims=True)
        distance = np.minimum(np.abs(wide - largest), 100.0)
        # Shares below the least normal float may be left out.
        return Truth(values, np.nan_to_num(values * (1 + distance) * ULP, nan=1.0) + 2.0**-126)


def mean(x: Array, axis: int = -1) -> Truth:
    """Along an axis, which stays."""
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        return floats(wide.mean(axis, keepdims=True), np.abs(wide).mean(axis, keepdims=True))


def total(x: Array, axis: int = -1, *, keep: bool = True) -> Truth:
    """The sum along an axis."""
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        return floats(wide.sum(axis, keepdims=keep), np.abs(wide).sum(axis, keepdims=keep))


def running_total(x: Array) -> Truth:
    """The sums of all up to each place of a row."""
    wide = x.astype(np.float64)
    return floats(wide.cumsum(-1), np.abs(wide).cumsum(-1))


def largest(x: Array, axis: int = -1, *, keep: bool = True) -> Truth:
    """The largest along an axis."""
    with np.errstate(all="ignore"):
        return Truth(x.astype(np.float64).max(axis, keepdims=keep), MIN)


def product(a: Array, b: Array, bias: Array | None = None) -> Truth:
    """Matrix products; sums are rounded beside the magnitudes of what they add."""
    with np.errstate(all="ignore"):
        left, right = a.astype(np.float64), b.astype(np.float64)
        values, size = left @ right, np.abs(left) @ np.abs(right)
        if bias is not None:
            values, size = values + bias, size + np.abs(bias)
        return floats(values, size)


def same(values: Array) -> Truth:
    """Values that are moved and not changed."""
    return Truth(values, MIN if np.issubdtype(values.dtype, np.floating) else 1.0)


def quantized(x: Array, scale: float, zero_point: int, bits: int) -> Truth:
    """Integers of a uniform grid, which ends at those of so many bits; the unit is a step.

    A NaN has no integer, and infinities are the ends.
    """
    minimum, maximum = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    with np.errstate(all="ignore"):
        steps = np.rint(x.astype(np.float64) / scale) + zero_point
    return Truth(np.clip(steps, minimum, maximum), 1.0)


def rounded_rows(x: Array) -> tuple[Array, Array]:
    """Return rows of floats rounded to 8 bits by scales and zero points of their own, and the scales.

    The range of a row includes 0, which is one of the integers.
    """
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        low, high = np.minimum(wide.min(-1, keepdims=True), 0), np.maximum(wide.max(-1, keepdims=True), 0)
        scale = (high - low) / 255
        scale = np.where(scale == 0, 1.0, scale)
        zero = np.clip(np.rint(-128 - low / scale), -128, 127)
        integers = np.clip(np.rint(wide / scale) + zero, -128, 127)
        return (integers - zero) * scale, scale


def dynamic_product(x: Array, weight: Array, bias: Array | None = None) -> Truth:
    """`x @ weight.T + bias` with rows of `x` rounded to 8 bits.

    The unit is a step of a row times the largest weight that it meets: a value between two steps may go either way.
    """
    with np.errstate(all="ignore"):
        rows, scale = rounded_rows(x)
        real = weight.astype(np.float64)
        values = rows @ real.T + (0.0 if bias is None else bias)
        step = scale * np.abs(real).max(1)
        fine = floats(values, np.abs(rows) @ np.abs(real).T + (0.0 if bias is None else np.abs(bias)))
        return Truth(values, np.nan_to_num(step, nan=1.0, posinf=3.4e38) + 8 * fine.unit)
