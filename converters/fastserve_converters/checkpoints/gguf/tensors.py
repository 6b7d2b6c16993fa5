"""Tensors of a GGUF file: their blocks, their reals, and how llama.cpp has rearranged them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.checkpoints.gguf.header import StoredTensor
from fastserve_runtime.errors import UsageError

_ROTATED = re.compile(r"\.attn_([qk])\.(weight|bias)$")


def stored_blocks(tensor: StoredTensor) -> NDArray[np.uint8]:
    """Return the bytes of a tensor, shape [rows, bytes of a row]; a view of the file."""
    content = np.memmap(tensor.file, np.uint8, mode="r", offset=tensor.start, shape=(tensor.size,))
    return content.reshape(int(np.prod(tensor.shape[:-1])), -1)


def reals(tensor: StoredTensor) -> NDArray[np.float32]:
    """Return the numbers of a tensor as llama.cpp has them, float32, of its shape.

    Raises:
        UsageError: its type is not supported.
    """
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    kind = GGMLQuantizationType[tensor.kind]
    blocks = stored_blocks(tensor)
    plain = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}
    try:
        found = dequantize(blocks.view(plain[kind]) if kind in plain else blocks, kind)
    except NotImplementedError:
        raise UsageError(
            f"The tensor '{tensor.name}' is of the type {tensor.kind}, which is not supported.",
            "Take a file in another quantization, such as Q4_0, Q4_1, Q4_K_M, Q8_0 or F16.",
        ) from None
    return np.array(found, np.float32).reshape(tensor.shape)


def original_rows(name: str, config: Mapping[str, Any]) -> NDArray[np.intp] | None:
    """Return which row of a stored tensor is each row of Transformers' parameter, or None where they are the same.

    llama.cpp rotates neighbouring dimensions of a head, Transformers the two halves; its converter reorders queries and
    keys of Llama for that.

    Args:
        name: the tensor's.
        config: the model's.
    """
    match = _ROTATED.search(name)
    if match is None or config["model_type"] != "llama":
        return None
    heads = config["num_attention_heads"] if match.group(1) == "q" else config["num_key_value_heads"]
    rows = np.arange(heads * config["head_dim"])
    return rows.reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)


def parameter(tensor: StoredTensor, config: Mapping[str, Any]) -> NDArray[np.float32]:
    """Return a tensor as Transformers has it.

    Args:
        tensor: one of a file's.
        config: the model's.

    Raises:
        UsageError: its type is not supported, or its rows are not those that the config tells.
    """
    values = reals(tensor)
    order = original_rows(tensor.name, config)
    if order is not None:
        if len(order) != len(values):
            raise UsageError(
                f"The tensor '{tensor.name}' has {len(values)} rows; the config tells {len(order)}.",
                "Download the file again.",
            )
        values = values[order]
    if config["model_type"].startswith("gemma") and tensor.name.endswith("norm.weight"):
        values = values - np.float32(1)  # llama.cpp's are offset by the one that Gemma adds
    if config["model_type"] == "gpt2" and values.ndim == 2 and tensor.name.startswith("blk."):
        values = values.T  # `Conv1D` has its weight the other way round
    return np.ascontiguousarray(values)
