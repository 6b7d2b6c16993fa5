"""The quantized weights of a GGUF file as its model's layers have them, so that nothing is rounded twice.

Types are those of `ggml-quants.h`: Q4_0 and Q8_0 are scale x integer in groups of 32 columns, Q4_1 is scale x integer +
minimum; scales and minima are float16.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.checkpoints.gguf.configs import config_of
from fastserve_converters.checkpoints.gguf.header import GgufHeader, StoredTensor, read_header
from fastserve_converters.checkpoints.gguf.tensors import original_rows, stored_blocks
from fastserve_converters.checkpoints.gguf.vocabulary import ARRAYS
from fastserve_converters.models.decoder.form import DecoderForm
from fastserve_converters.models.layer_groups import weight_of
from fastserve_converters.precisions import WeightScheme
from fastserve_converters.quantized_weight import QuantizedWeight

_GROUP = 32
_HALF_BYTES = 2
_ATTENTION = {"attention.output": ("attn_output",)}
_FEED_FORWARD = {f"feed_forward.{name}": (f"ffn_{name}",) for name in ("gate", "up", "down")}


@dataclass(frozen=True)
class _BlockLayout:
    """How a type's blocks are laid out: scale, minimum if any, integers."""

    scheme: WeightScheme
    zero_point: int

    def read(self, blocks: NDArray[np.uint8]) -> QuantizedWeight:
        """Take blocks apart, given as rows of bytes."""
        rows = len(blocks)
        reals = 2 if self.scheme.minimum else 1
        size = reals * _HALF_BYTES + _GROUP * self.scheme.bits // 8
        parted = blocks.reshape(rows, -1, size)
        halves = np.ascontiguousarray(parted[..., : reals * _HALF_BYTES]).view("<f2").astype(np.float32)
        quantized = parted[..., reals * _HALF_BYTES :]
        if self.scheme.bits == 4:
            # The first half of a group lies in the low nibbles, the second in the high ones.
            values = np.concatenate([quantized & 0x0F, quantized >> 4], axis=-1).astype(np.int8) - np.int8(8)
        else:
            values = np.ascontiguousarray(quantized).view(np.int8)
        return QuantizedWeight(
            values=values.reshape(rows, -1),
            scale=halves[..., 0],
            zero_point=np.full(halves.shape[:2], self.zero_point, np.int8),
            scheme=self.scheme,
            minimum=halves[..., 1] if self.scheme.minimum else None,
        )


_BLOCK_LAYOUTS: Mapping[str, _BlockLayout] = {
    "Q4_0": _BlockLayout(WeightScheme(4, _GROUP, scale="float16"), 0),
    # Its quantized weights count from the minimum upwards: from 0, which is -8 here.
    "Q4_1": _BlockLayout(WeightScheme(4, _GROUP, scale="float16", minimum=True), -8),
    "Q8_0": _BlockLayout(WeightScheme(8, _GROUP, scale="float16"), 0),
}


def gguf_weights(file: Path, form: DecoderForm) -> dict[str, QuantizedWeight]:
    """Return the quantized weights of every layer that has some that can be kept.

    A layer counts if its quantized weights stand for its weights to the last bit; others are left out, as are those of
    other types, or of parts of several types. A head that is tied to the embedding is the embedding's.

    Args:
        file: the GGUF file.
        form: the model that was loaded from it.

    Raises:
        UsageError: the file is damaged, or its model is not supported.
        EnvironmentFailure: it cannot be read, or the gguf package is missing.
    """
    header = read_header(file, arrays=ARRAYS)
    config = config_of(header)
    found = {}
    for layer, names in _stored_names(form, header).items():
        tensors = [header.tensors.get(f"{name}.weight") for name in names]
        weight = _joined_rows(config, [t for t in tensors if t is not None])
        if weight is not None and weight.is_exactly(weight_of(form, layer).numpy()):
            found[layer] = weight
    return found


def _stored_names(form: DecoderForm, header: GgufHeader) -> dict[str, tuple[str, ...]]:
    """Return the tensors, in GGUF's names without the ending, that each layer is made of."""
    names: dict[str, tuple[str, ...]] = {"embedding": ("token_embd",)}
    for index in range(len(form.layers)):
        block = f"blk.{index}."
        is_joint = f"{block}attn_qkv.weight" in header.tensors
        queries = {"attention.qkv": ("attn_qkv",) if is_joint else ("attn_q", "attn_k", "attn_v")}
        for layer, parts in {**queries, **_ATTENTION, **_FEED_FORWARD}.items():
            if f"{block}{parts[0]}.weight" in header.tensors:
                names[f"blocks.{index}.{layer}"] = tuple(block + part for part in parts)
    if not form.is_tied:
        names["head"] = ("output",)
    return names


def _joined_rows(config: Mapping[str, Any], tensors: Sequence[StoredTensor]) -> QuantizedWeight | None:
    """Return the rows of several tensors below each other, or None where they have no common type."""
    kinds = {tensor.kind for tensor in tensors}
    if len(kinds) != 1 or not kinds <= set(_BLOCK_LAYOUTS):
        return None
    layout = _BLOCK_LAYOUTS[kinds.pop()]
    blocks = []
    for tensor in tensors:
        stored = stored_blocks(tensor)
        order = original_rows(tensor.name, config)
        blocks.append(stored if order is None else stored[order])
    return layout.read(np.concatenate(blocks))
