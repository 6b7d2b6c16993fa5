"""Matrices of weights in the ways that exported models store them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from device_tests.operators.tensors import Array
from fastserve_converters.precisions import INT8, WeightScheme
from fastserve_converters.quantization.weights import quantize_nearest
from fastserve_converters.quantized_weight import QuantizedWeight

WIDTH, OUTPUTS, ROWS = 192, 24, 40
"""Columns, rows of a linear layer's weights, and rows of a table."""

SCHEMES: Mapping[str, WeightScheme | None] = {
    "float32": None,
    "int8 by channel": INT8,
    "int4 blocks of 32": WeightScheme(4, group=32, scale="bfloat16"),
    "int4 blocks of 32, float16": WeightScheme(4, group=32, scale="float16"),
    "int4 blocks of 64, float16": WeightScheme(4, group=64, scale="float16"),
    "int4 blocks of 48, zero points": WeightScheme(4, group=48, symmetric=False, scale="float16"),
}


def numbers(*shape: int, seed: int = 0) -> Array:
    """Return random float32."""
    return np.random.default_rng([99, seed]).standard_normal(shape).astype(np.float32)


def weights(kind: str, rows: int) -> tuple[Array, QuantizedWeight | None]:
    """Return a matrix as a kind of weights stores it, in reals, and its quantized weights.

    Its first row is a hundred times as large as the others, and its second one far smaller.
    """
    scheme = SCHEMES[kind]
    matrix = numbers(rows, WIDTH, seed=5)
    matrix[0] *= 100
    matrix[1] /= 100
    if scheme is None:
        return matrix, None
    made = quantize_nearest(matrix, scheme)
    return made.dequantized(), made
