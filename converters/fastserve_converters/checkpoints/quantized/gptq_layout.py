"""The layout of GPTQ (AutoGPTQ, GPTQModel): `qweight`, `qzeros`, `scales` and `g_idx` beside each layer's name.

`qweight` is packed along the inputs, [inputs x bits / 32, outputs]; `qzeros` along the outputs, [groups, outputs x
bits / 32]. The first version of the format stores zero points less one, the second (`checkpoint_format: gptq_v2`) as
they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastserve_converters.checkpoints.quantized.grouped_weight import GroupedWeight, unpacked
from fastserve_converters.checkpoints.quantized.layout import REMEDY, Arrays, Setting
from fastserve_runtime.errors import UsageError

TITLE = "GPTQ"
PARTS = frozenset({"qweight", "qzeros", "scales", "g_idx"})
MARKS = frozenset({"qweight"})
LEFT_OUT = frozenset[str]()
_BITS = (2, 3, 4, 8)
_FORMATS = {"gptq": 1, "gptq_v2": 0}
"""By how much zero points are stored too low."""


def check(settings: Mapping[str, Any]) -> str:
    """Describe the settings in a few words.

    Raises:
        UsageError: the layout is of a kind that is not supported.
    """
    bits = Setting(settings, TITLE).one_of("bits", _BITS)
    Setting(settings, TITLE).one_of("checkpoint_format", tuple(_FORMATS), default="gptq")
    if settings.get("dynamic"):
        raise UsageError(
            f"The checkpoint is quantized by {TITLE} with settings that differ by layer ('dynamic'), which is not "
            "supported.",
            REMEDY,
        )
    group = settings.get("group_size", -1)
    order = ", in the order of activations" if settings.get("desc_act") else ""
    return f"{TITLE}, {bits} bits, {'a scale a row' if group in {-1, None} else f'groups of {group}'}{order}"


def read(parts: Arrays, settings: Mapping[str, Any]) -> GroupedWeight:
    """Return the quantized weights of a layer.

    Raises:
        ValueError: the parts do not fit each other.
    """
    bits, scales, order = int(settings["bits"]), parts["scales"].astype(np.float32), parts.get("g_idx")
    words = parts["qweight"]
    outputs = words.shape[1]
    inputs = words.shape[0] * 32 // bits if order is None else len(order)
    values = unpacked(np.ascontiguousarray(words.T), bits, inputs)
    less = _FORMATS[settings.get("checkpoint_format", "gptq")]
    zeros = (unpacked(parts["qzeros"], bits, outputs) + np.uint8(less)) & np.uint8(2**bits - 1)
    size = settings.get("group_size", -1)
    neighbours = np.arange(inputs) // (inputs if size in {-1, None} else int(size))
    groups = neighbours if order is None else order.astype(np.intp)
    if zeros.shape != scales.shape or groups.min() < 0 or groups.max() >= len(scales):
        raise ValueError(f"zero points of the shape {list(zeros.shape)} beside scales of {list(scales.shape)}")
    return GroupedWeight(values, scales.T, zeros.T, groups, bits)
