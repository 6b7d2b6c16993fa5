"""The layout of bitsandbytes: int8 with a scale a row, and 4-bit codes of a table (NF4, FP4) in blocks.

int8: `weight` int8 and `SCB`, the largest magnitude of each row, which is 127. 4 bits: `weight`, two codes a byte, the
first in the high half; `absmax` of each block, itself perhaps as codes of a table (`nested_*`); `quant_map`, the table;
and a JSON text with the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.checkpoints.quantized.layout import Arrays

TITLE = "bitsandbytes"
_STATES = tuple(f"weight.quant_state.bitsandbytes__{kind}" for kind in ("nf4", "fp4"))
PARTS = frozenset(
    {
        "weight", "SCB", "weight.absmax", "weight.quant_map", "weight.nested_absmax", "weight.nested_quant_map",
        *_STATES,
    }
)  # fmt: skip
MARKS = frozenset({"SCB", "weight.absmax"})
LEFT_OUT = frozenset({"weight_format"})
_INT8_MAX = np.float32(127)


def check(settings: Mapping[str, Any]) -> str:
    """Describe the settings in a few words."""
    if settings.get("load_in_4bit") or settings.get("_load_in_4bit"):
        return f"{TITLE}, 4 bits ({settings.get('bnb_4bit_quant_type', 'fp4')})"
    return f"{TITLE}, 8 bits"


def read(parts: Arrays, settings: Mapping[str, Any]) -> NDArray[np.float32]:  # noqa: ARG001
    """Return the weight of a layer; its own parts say all that there is to know.

    Raises:
        ValueError: the parts do not fit each other.
    """
    weight = parts["weight"]
    if "SCB" in parts:
        return np.asarray(
            weight.astype(np.float32) * (parts["SCB"].astype(np.float32) / _INT8_MAX)[:, None], np.float32
        )
    state = next((parts[name] for name in _STATES if name in parts), None)
    if state is None:
        raise ValueError("its 'quant_state' is missing")
    rest = json.loads(bytes(state.astype(np.uint8)))
    codes = weight.astype(np.uint8).reshape(-1)
    codes = np.stack([codes >> 4, codes & 0x0F], axis=-1).reshape(-1)
    shape = tuple(int(size) for size in rest["shape"])
    count = int(np.prod(shape))
    if len(codes) < count:
        raise ValueError(f"a weight of the shape {list(shape)} in {len(codes)} codes")
    largest = parts["weight.absmax"]
    if "weight.nested_absmax" in parts:
        largest = _blocks(
            parts["weight.nested_quant_map"][largest.astype(np.uint8)],
            parts["weight.nested_absmax"],
            int(rest["nested_blocksize"]),
        ) + np.float32(rest["nested_offset"])
    return _blocks(parts["weight.quant_map"][codes[:count]], largest, int(rest["blocksize"])).reshape(shape)


def _blocks(values: NDArray[Any], largest: NDArray[Any], size: int) -> NDArray[np.float32]:
    factors = largest.astype(np.float32).reshape(-1)
    if len(factors) != -(-len(values) // size):
        raise ValueError(f"{len(values)} values in blocks of {size} have {len(factors)} scales")
    return np.asarray(values.astype(np.float32) * factors.repeat(size)[: len(values)], np.float32)
