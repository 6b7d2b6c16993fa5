"""Rounding weight matrices: uniform affine quantization by row or by group of columns.

Terms are those of Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference" (arXiv 1712.05877): real = (integer - zero point) x scale.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.precisions import WeightScheme
from fastserve_converters.quantized_weight import QuantizedWeight

_MIN_SCALE = 1e-12
_SCALE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_MIN_WIDENING = 1 + 2**-10
_CLIPPING = np.linspace(1.0, 0.6, 11)
"""Shares of the range that are tried where a clipped range is wanted: rounding the many finer may be worth cutting off
the few largest (OCTAV, arXiv 2206.06501, finds the same optimum for symmetric ranges in closed form)."""


def stored_bytes(shape: tuple[int, ...], scheme: WeightScheme | None) -> int:
    """Return the bytes that a matrix of a shape takes: integers, scales, zero points, minima. None is float32."""
    rows, columns = shape
    if scheme is None:
        return rows * columns * 4
    groups = rows * (columns // scheme.group if scheme.group else 1)
    zero_points = 0 if scheme.symmetric else (groups * scheme.bits + 7) // 8
    reals = groups * _SCALE_BYTES[scheme.scale] * (2 if scheme.minimum else 1)
    return (rows * columns * scheme.bits + 7) // 8 + reals + zero_points


def fits(shape: tuple[int, ...], scheme: WeightScheme) -> bool:
    """Whether a matrix can have a scheme: its columns must make whole groups."""
    return scheme.group is None or shape[1] % scheme.group == 0


def quantized_limits(scheme: WeightScheme) -> tuple[int, int]:
    """Return the least and the largest integer of a scheme; of eight bits the odd lowest, -128, is left out."""
    maximum = 2 ** (scheme.bits - 1) - 1
    return (-maximum if scheme.bits == 8 else -maximum - 1), maximum


def quantize_nearest(weight: NDArray[np.floating], scheme: WeightScheme) -> QuantizedWeight:
    """Round a matrix to the nearest integers.

    Eight bits take the whole range. For four, the range of each group is cut to the share that leaves the least
    squared error.

    Args:
        weight: shape [rows, columns].
        scheme: how to store it; its groups must divide the columns.
    """
    rows, columns = weight.shape
    grouped = np.asarray(weight, np.float32).reshape(rows, -1, scheme.group or columns)
    scale, zero_point = quantization_parameters(grouped, scheme)
    values = rounded(grouped, scale, zero_point, scheme)
    return QuantizedWeight(values.reshape(rows, columns).astype(np.int8), scale, zero_point.astype(np.int8), scheme)


def quantization_parameters(
    grouped: NDArray[np.float32], scheme: WeightScheme, importance: NDArray[np.float32] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return scale and zero point (whole numbers) of every group, shape [rows, groups].

    Args:
        grouped: shape [rows, groups, columns of a group].
        scheme: of which bits and symmetry count.
        importance: how much the error of a column counts (mean square of what multiplies it), shape
            [1, groups, columns of a group].
    """
    best_scale, best_zero = _parameters_of_range(grouped, scheme, 1.0)
    if scheme.bits == 8:
        if scheme.pair_limit is None:
            return best_scale, best_zero
        return widened(best_scale, scheme.pair_limit, lambda s: rounded(grouped, s, best_zero, scheme)), best_zero
    best_error = _group_error(grouped, best_scale, best_zero, scheme, importance)
    for share in _CLIPPING[1:]:
        scale, zero = _parameters_of_range(grouped, scheme, float(share))
        error = _group_error(grouped, scale, zero, scheme, importance)
        is_better = error < best_error
        best_scale = np.where(is_better, scale, best_scale)
        best_zero = np.where(is_better, zero, best_zero)
        best_error = np.where(is_better, error, best_error)
    return best_scale, best_zero


def rounded(
    grouped: NDArray[np.float32], scale: NDArray[np.float32], zero_point: NDArray[np.float32], scheme: WeightScheme
) -> NDArray[np.float32]:
    """Return the nearest whole numbers on the grid, shape [rows, groups, columns of a group]."""
    minimum, maximum = quantized_limits(scheme)
    return np.asarray(
        np.clip(np.rint(grouped / scale[..., None]) + zero_point[..., None], minimum, maximum), np.float32
    )


def pair_sums(quantized: NDArray[np.number]) -> NDArray[np.float32]:
    """Return the largest magnitude that two neighbours of the last axis add up to; an odd last one stands alone."""
    values = np.asarray(quantized, np.float32)
    if values.shape[-1] % 2:
        values = np.concatenate([values, np.zeros_like(values[..., :1])], axis=-1)
    largest: NDArray[np.float32] = np.abs(values[..., 0::2] + values[..., 1::2]).max(-1)
    return largest


def widened(
    scale: NDArray[np.float32], limit: int, quantized: Callable[[NDArray[np.float32]], NDArray[np.number]]
) -> NDArray[np.float32]:
    """Return scales that are enlarged, each no more than it takes, until no pair of integers exceeds a limit.

    Args:
        scale: the smallest that may be.
        limit: see `WeightScheme.pair_limit`.
        quantized: gives the quantized weights of any scales, with one axis more than these.
    """
    while True:
        sums = pair_sums(quantized(scale))
        if not bool((sums > limit).any()):
            return scale
        scale = np.where(sums > limit, scale * np.maximum(sums / limit, _MIN_WIDENING), scale).astype(np.float32)


def stored_scale(scale: NDArray[np.floating], scheme: WeightScheme) -> NDArray[np.float32]:
    """Return scales as the scheme's type holds them, at least the least that divides safely."""
    minimum = 2**-14 if scheme.scale == "float16" else _MIN_SCALE
    values = np.maximum(np.asarray(scale, np.float32), np.float32(minimum))
    if scheme.scale == "float16":
        return values.astype(np.float16).astype(np.float32)
    if scheme.scale == "bfloat16":
        # The upper half of a float32, rounded to nearest.
        return ((values.view(np.uint32) + np.uint32(0x8000)) & np.uint32(0xFFFF0000)).view(np.float32)
    return values


def _parameters_of_range(
    grouped: NDArray[np.float32], scheme: WeightScheme, share: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    minimum, maximum = quantized_limits(scheme)
    if scheme.symmetric:
        scale = stored_scale(np.abs(grouped).max(-1) * share / maximum, scheme)
        return scale, np.zeros_like(scale)
    # Zero stays on the grid, so that padding rows and pruned weights keep it.
    low = np.minimum(grouped.min(-1), 0) * share
    high = np.maximum(grouped.max(-1), 0) * share
    scale = stored_scale((high - low) / (maximum - minimum), scheme)
    return scale, np.clip(np.rint(minimum - low / scale), minimum, maximum).astype(np.float32)


def _group_error(
    grouped: NDArray[np.float32],
    scale: NDArray[np.float32],
    zero_point: NDArray[np.float32],
    scheme: WeightScheme,
    importance: NDArray[np.float32] | None,
) -> NDArray[np.float32]:
    quantized = rounded(grouped, scale, zero_point, scheme)
    error = np.square((quantized - zero_point[..., None]) * scale[..., None] - grouped)
    return np.asarray((error if importance is None else error * importance).sum(-1), np.float32)
