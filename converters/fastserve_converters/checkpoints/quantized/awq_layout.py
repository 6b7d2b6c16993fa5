"""The layout of AWQ's `gemm` kernels: `qweight`, `qzeros` and `scales` beside each layer's name.

Both are packed along the outputs, eight to a word: [inputs, outputs / 8] and [groups, outputs / 8]. Within a word they
lie in the order 0, 2, 4, 6, 1, 3, 5, 7.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.checkpoints.quantized.grouped_weight import GroupedWeight, groups_of, unpacked
from fastserve_converters.checkpoints.quantized.layout import Arrays, Setting

TITLE = "AWQ"
PARTS = frozenset({"qweight", "qzeros", "scales"})
MARKS = frozenset({"qweight"})
LEFT_OUT = frozenset[str]()
_BITS = 4
_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)
"""Where in a word each of eight neighbours lies."""


def check(settings: Mapping[str, Any]) -> str:
    """Describe the settings in a few words.

    Raises:
        UsageError: the layout is of a kind that is not supported.
    """
    setting = Setting(settings, TITLE)
    setting.one_of("bits", (_BITS,), also=("w_bit",))
    setting.one_of("version", ("gemm",), default="gemm")
    group = settings.get("group_size", settings.get("q_group_size", 128))
    return f"{TITLE}, {_BITS} bits, {'a scale a row' if group == -1 else f'groups of {group}'}"


def read(parts: Arrays, settings: Mapping[str, Any]) -> GroupedWeight:
    """Return the quantized weights of a layer.

    Raises:
        ValueError: the parts do not fit each other.
    """
    scales = parts["scales"].astype(np.float32)
    values, zeros = _ordered(parts["qweight"]), _ordered(parts["qzeros"])
    if zeros.shape != scales.shape:
        raise ValueError(f"zero points of the shape {list(zeros.shape)} beside scales of {list(scales.shape)}")
    size = settings.get("group_size", settings.get("q_group_size", 128))
    return GroupedWeight(values.T, scales.T, zeros.T, groups_of(len(values), len(scales), size), _BITS)


def _ordered(words: NDArray[Any]) -> NDArray[np.uint8]:
    rows, count = len(words), words.shape[1] * 32 // _BITS
    return unpacked(words, _BITS, count).reshape(rows, -1, len(_PLACES))[..., _PLACES].reshape(rows, count)
