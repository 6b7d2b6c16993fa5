"""Weights in 8-bit floats (`float8_e4m3fn`) with a scale for the matrix, each row, or each block of it.

DeepSeek's and Qwen's checkpoints (`quant_method: fp8`) have `weight_scale_inv`, shape [rows / 128, columns / 128];
FBGEMM's have `weight_scale`, shape [rows, 1]. Both are multiplied by.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.checkpoints.quantized.layout import Arrays

TITLE = "FP8"
PARTS = frozenset({"weight", "weight_scale_inv", "weight_scale"})
MARKS = frozenset({"weight_scale", "weight_scale_inv"})
LEFT_OUT = frozenset({"activation_scale", "input_scale", "input_scale_ub"})


def check(settings: Mapping[str, Any]) -> str:
    """Describe the settings in a few words."""
    block = settings.get("weight_block_size")
    return f"{TITLE}, a scale {'a tensor or row' if not block else 'for blocks of ' + ' x '.join(map(str, block))}"


def read(parts: Arrays, settings: Mapping[str, Any]) -> NDArray[np.float32]:
    """Return the weight of a layer.

    Raises:
        ValueError: the parts do not fit each other.
    """
    scale = parts["weight_scale_inv"] if "weight_scale_inv" in parts else parts["weight_scale"]
    return scaled(parts["weight"], scale, settings.get("weight_block_size"))


def scaled(weight: NDArray[Any], scale: NDArray[Any], block: list[int] | None) -> NDArray[np.float32]:
    """Return a matrix times its scales.

    Args:
        weight: shape [rows, columns].
        scale: one for all, shape [rows] or [rows, 1], or one for each block.
        block: rows and columns of a block, of which the last ones may be cut off.

    Raises:
        ValueError: there are more or fewer scales than that, or the weight is no float.
    """
    if weight.dtype.kind != "f":
        raise ValueError(f"its weight is of the type {weight.dtype}; 8-bit floats are wanted")
    values = weight.astype(np.float32)
    # Bytes are powers of two (E8M0 of the OCP's microscaling formats).
    is_power = scale.dtype == np.uint8
    factors = np.exp2(scale.astype(np.float32) - 127) if is_power else scale.astype(np.float32)
    if factors.size == 1:
        return values * factors.reshape(())
    rows, columns = values.shape
    if factors.size == rows and not block:
        return values * factors.reshape(rows, 1)
    if block and factors.shape == (-(-rows // block[0]), -(-columns // block[1])):
        wide = factors.repeat(block[0], axis=0)[:rows].repeat(block[1], axis=1)[:, :columns]
        return np.asarray(values * wide, np.float32)
    raise ValueError(f"a weight of the shape {[rows, columns]} beside scales of {list(factors.shape)}")
