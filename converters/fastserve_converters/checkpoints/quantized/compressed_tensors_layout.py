"""The layout of compressed-tensors (llm-compressor): integers packed into words, plain int8, and 8-bit floats.

Packed (`pack-quantized`): `weight_packed` [rows, words], `weight_scale` [rows, groups], `weight_shape`, and
`weight_zero_point` packed along the rows where the scheme is asymmetric; integers are stored with half their range
added. `weight_g_idx` is the group of each column where they were quantized in the order of activations. Plain
(`int-quantized`, `float-quantized`, `naive-quantized`): `weight`, `weight_scale`, `weight_zero_point`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.checkpoints.quantized.float8_layout import scaled
from fastserve_converters.checkpoints.quantized.grouped_weight import GroupedWeight, groups_of, unpacked
from fastserve_converters.checkpoints.quantized.layout import REMEDY, Arrays, Setting
from fastserve_runtime.errors import UsageError

TITLE = "compressed-tensors"
PARTS = frozenset({"weight", "weight_packed", "weight_scale", "weight_shape", "weight_zero_point", "weight_g_idx"})
MARKS = frozenset({"weight_scale"})
LEFT_OUT = frozenset({"input_scale", "input_zero_point", "output_scale", "output_zero_point", "k_scale", "v_scale"})
_PACKED = "pack-quantized"
_FORMATS = (_PACKED, "int-quantized", "float-quantized", "naive-quantized", "dense", "mixed-precision")
_BITS = (2, 4, 8)
"""Others were packed in two ways, by older and newer versions."""


def check(settings: Mapping[str, Any]) -> str:
    """Describe the settings in a few words.

    Raises:
        UsageError: the layout is of a kind that is not supported.
    """
    form = Setting(settings, TITLE).one_of("format", _FORMATS)
    for group in _groups(settings):
        Setting(group, TITLE).one_of("format", _FORMATS, default=form)
        weights = Setting(group.get("weights") or {}, TITLE)
        kind = weights.one_of("type", ("int", "float"), default="int")
        weights.one_of("num_bits", _BITS if kind == "int" else (8,), default=8)
        weights.one_of("strategy", ("tensor", "channel", "group", "block"), default="channel")
    for key in ("sparsity_config", "transform_config"):
        given = settings.get(key) or {}
        if given and given.get("format", "") != "dense" and any(given.values()):
            raise UsageError(f"The checkpoint is quantized by {TITLE} with '{key}', which is not supported.", REMEDY)
    kinds = {f"{w.get('type', 'int')}{w.get('num_bits', 8)}" for w in _weights(settings)}
    return f"{TITLE}, {form}, {' and '.join(sorted(kinds))}"


def read(parts: Arrays, settings: Mapping[str, Any]) -> GroupedWeight | NDArray[np.float32]:
    """Return the weight of a layer.

    Raises:
        ValueError: the parts do not fit each other.
    """
    scale = parts["weight_scale"]
    if "weight_packed" in parts:
        return _packed(parts, settings)
    weight, zero = parts["weight"], parts.get("weight_zero_point")
    if weight.dtype != np.int8:
        return scaled(weight, scale, _block(settings))
    rows = len(weight)
    table = np.atleast_2d(scale.astype(np.float32).reshape(scale.shape or (1, 1)))
    table = np.broadcast_to(table, (rows, table.shape[1])) if len(table) == 1 else table.reshape(rows, -1)
    zeros = (
        np.zeros(table.shape, np.int8)
        if zero is None
        else np.broadcast_to(zero.reshape(-1, table.shape[1]), table.shape)
    )
    groups = groups_of(weight.shape[1], table.shape[1], -(-weight.shape[1] // table.shape[1]))
    return GroupedWeight(_counted(weight, 8), table, _counted(zeros, 8), groups, 8)


def _packed(parts: Arrays, settings: Mapping[str, Any]) -> GroupedWeight:
    rows, columns = (int(size) for size in parts["weight_shape"])
    words, scale, zero = parts["weight_packed"], parts["weight_scale"], parts.get("weight_zero_point")
    known = {int(w.get("num_bits", 8)) for w in _weights(settings)}
    fitting = [bits for bits in known if -(-columns * bits // 32) == words.shape[1]]
    if len(fitting) != 1 or len(words) != rows:
        raise ValueError(f"a weight of the shape {[rows, columns]} in words of the shape {list(words.shape)}")
    (bits,) = fitting
    table = scale.astype(np.float32).reshape(-1, scale.shape[-1] if scale.ndim else 1)
    table = np.broadcast_to(table, (rows, table.shape[1]))
    if zero is None:
        zeros = np.full(table.shape, 2 ** (bits - 1), np.uint8)
    else:
        zeros = unpacked(np.ascontiguousarray(zero.T), bits, rows).T
    order = parts.get("weight_g_idx")
    if order is not None and (order >= 0).all():
        groups = order.astype(np.intp)
    else:
        groups = groups_of(columns, table.shape[1], -(-columns // table.shape[1]))
    if zeros.shape != table.shape or groups.max() >= table.shape[1]:
        raise ValueError(f"zero points of the shape {list(zeros.shape)} beside scales of {list(table.shape)}")
    return GroupedWeight(unpacked(words, bits, columns), table, zeros, groups, bits)


def _counted(values: NDArray[np.int8], bits: int) -> NDArray[np.uint8]:
    """Return signed integers as counted from the lowest."""
    return np.asarray(values.astype(np.int16) + 2 ** (bits - 1), np.uint8)


def _groups(settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list((settings.get("config_groups") or {}).values())


def _weights(settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [group["weights"] for group in _groups(settings) if group.get("weights")]


def _block(settings: Mapping[str, Any]) -> list[int] | None:
    return next((w["block_structure"] for w in _weights(settings) if w.get("block_structure")), None)
