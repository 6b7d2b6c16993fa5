"""A rounded layer made better: scales refitted and integers chosen again, in turn, for the least error of its output.

Integers by coordinate descent, after Behdin et al., "QuantEase: Optimization-based Quantization for Language Models"
(arXiv 2309.01885): a column at a time takes those that are best beside all others as they are, which undoes what GPTQ's
greedy order chose badly. Scales, for given integers, are a linear least-squares problem for each row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.quantization.weights import quantized_limits, stored_scale
from fastserve_converters.quantized_weight import QuantizedWeight

_ROUNDS = 3
"""Each makes the error some percent smaller, the later ones less."""
_BLOCK = 64
"""Columns after which the changes are spread to all others at once."""
_ROWS = 64
"""Rows whose scales are found together: their systems take [rows, groups, columns] numbers."""
_MAX_CHANGE = 2.0
"""A scale that would grow or shrink by more stays as it is: its group says too little about it."""

Floats = NDArray[np.float32]


def improved(weight: NDArray[np.floating], hessian: NDArray[np.floating], found: QuantizedWeight) -> QuantizedWeight:
    """Return better quantized weights and scales for a matrix; zero points stay.

    Args:
        weight: the reals, shape [rows, columns].
        hessian: second moments of the layer's inputs, with a positive diagonal, shape [columns, columns].
        found: the quantized weight to begin with.
    """
    reals, moments = np.asarray(weight, np.float32), np.asarray(hessian, np.float32)
    best = _descended(reals, moments, found)
    for _ in range(_ROUNDS):
        best = _descended(reals, moments, refitted(reals, moments, best))
    return best


def refitted(weight: Floats, hessian: Floats, found: QuantizedWeight) -> QuantizedWeight:
    """Return the same quantized weights with the scales that leave the least error of the layer's output.

    Args:
        weight: the reals, shape [rows, columns].
        hessian: second moments of the layer's inputs, shape [columns, columns].
        found: the quantized weight.
    """
    rows, columns = weight.shape
    groups = found.scale.shape[1]
    by_group = hessian.reshape(groups, -1, columns)
    wanted = (weight @ hessian).reshape(rows, groups, -1)
    whole = found.values.reshape(rows, groups, -1).astype(np.float32) - found.zero_point[..., None]
    scale = found.scale.copy()
    for start in range(0, rows, _ROWS):
        part = slice(start, start + _ROWS)
        steps = whole[part]
        spread = (steps.transpose(1, 0, 2) @ by_group).reshape(groups, len(steps), groups, -1)
        normal = np.einsum("grhk,rhk->rgh", spread, steps).astype(np.float64)
        # A group of zeros has no say in its scale.
        diagonal = np.arange(groups)
        normal[:, diagonal, diagonal] += 1e-6 * np.trace(normal, axis1=1, axis2=2)[:, None] / groups + 1e-20
        right = (wanted[part] * steps).sum(-1).astype(np.float64)
        solved = np.linalg.solve(normal, right[..., None])[..., 0]
        old = scale[part]
        is_near = (solved > old / _MAX_CHANGE) & (solved < old * _MAX_CHANGE)
        scale[part] = np.where(is_near, solved, old)
    return QuantizedWeight(found.values, stored_scale(scale, found.scheme), found.zero_point, found.scheme)


def _descended(weight: Floats, hessian: Floats, found: QuantizedWeight) -> QuantizedWeight:
    """Return the same weight with each column's values chosen again, once, those of the largest inputs first."""
    columns = weight.shape[1]
    group = columns // found.scale.shape[1]
    minimum, maximum = quantized_limits(found.scheme)
    # A column of the matrix is a row here: what is looked at together lies together.
    values, reals = np.ascontiguousarray(found.values.T), np.ascontiguousarray(found.dequantized().T)
    scale, zero = np.ascontiguousarray(found.scale.T), np.ascontiguousarray(found.zero_point.T, np.float32)
    slope = hessian @ (weight.T - reals)
    curvature = np.diag(hessian)
    order = np.argsort(-curvature, kind="stable")
    for start in range(0, columns, _BLOCK):
        block = order[start : start + _BLOCK]
        inside = hessian[np.ix_(block, block)]
        own = slope[block]
        changes = np.empty_like(own)
        for place, column in enumerate(block):
            steps, shift = scale[column // group], zero[column // group]
            current = own[place] - inside[place, :place] @ changes[:place]
            best = (reals[column] + current / curvature[column]) / steps
            quantized = np.clip(np.rint(best) + shift, minimum, maximum)
            change = (quantized - shift) * steps - reals[column]
            values[column] = quantized
            reals[column] += change
            changes[place] = change
        slope -= hessian[:, block] @ changes
    return QuantizedWeight(np.ascontiguousarray(values.T), found.scale, found.zero_point, found.scheme)


def output_error(weight: Floats, hessian: Floats, found: QuantizedWeight) -> float:
    """Return the squared error of the layer's output, summed over rows and averaged over inputs."""
    error = found.dequantized() - weight
    return float(((error @ hessian) * error).sum())
