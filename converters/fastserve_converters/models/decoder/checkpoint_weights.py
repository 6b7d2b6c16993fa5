"""The quantized weights of a quantized checkpoint as a decoder's layers have them, so that nothing is rounded twice."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from fastserve_converters.checkpoints.quantized.grouped_weight import GroupedWeight
from fastserve_converters.checkpoints.quantized.weights import StoredLayers
from fastserve_converters.models.decoder.form import DecoderForm
from fastserve_converters.models.layer_groups import weight_of
from fastserve_converters.precisions import WeightScheme
from fastserve_converters.quantized_weight import QuantizedWeight

_PLACE = re.compile(r"(?:^|\.)(?:layers|h)\.(\d+)\.(?:self_attn|attn|mlp)\.(\w+)$")
_PARTS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "attention.qkv": (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("attn.c_attn",)),
    "attention.output": (("self_attn.o_proj",), ("attn.c_proj",)),
    "feed_forward.gate": (("mlp.gate_proj",),),
    "feed_forward.up": (("mlp.up_proj",), ("mlp.c_fc",)),
    "feed_forward.down": (("mlp.down_proj",), ("mlp.c_proj",)),
}
_MAX_GROUP, _MIN_GROUP = 256, 16
_HEAD = "lm_head"


def checkpoint_weights(layers: StoredLayers, form: DecoderForm) -> dict[str, QuantizedWeight]:
    """Return the quantized weights of every layer that has them in groups of neighbouring columns.

    A layer counts if its quantized weights stand for its weights to the last bit. Groups that an engine has no operator
    for are cut into smaller ones, which share a scale; integers of fewer than 4 bits are stored as ones of 4.

    Args:
        layers: of the checkpoint.
        form: the model that was loaded from it.

    Raises:
        UsageError: a layer cannot be read.
    """
    found_weights: dict[str, GroupedWeight] = {}
    for name, weight in layers.quantized():
        if isinstance(weight, GroupedWeight):
            match = _PLACE.search(name)
            short = ".".join(name.split(".")[-2:])
            found_weights[f"{match.group(1)}.{short}" if match else name] = weight
    found = {}
    for layer, candidates in _candidates(form):
        parts = next(
            ([found_weights[n] for n in names] for names in candidates if all(n in found_weights for n in names)), None
        )
        joined = None if parts is None else _joined(parts)
        if joined is not None and joined.is_exactly(weight_of(form, layer).numpy()):
            found[layer] = joined
    return found


def _candidates(form: DecoderForm) -> list[tuple[str, list[tuple[str, ...]]]]:
    """Return each layer's name and the names of the stored layers that it may be made of."""
    found = [
        (f"blocks.{i}.{layer}", [tuple(f"{i}.{name}" for name in names) for names in choices])
        for i in range(len(form.layers))
        for layer, choices in _PARTS.items()
    ]
    return found if form.is_tied else [*found, ("head", [(_HEAD,)])]


def _joined(parts: Sequence[GroupedWeight]) -> QuantizedWeight | None:
    """Return the rows of several layers below each other, or None where they have no common groups of neighbours."""
    sizes = {_group_size(part) for part in parts}
    bits = {part.bits for part in parts}
    columns = {part.values.shape[1] for part in parts}
    if None in sizes or len(sizes) != 1 or len(bits) != 1 or len(columns) != 1:
        return None
    size = next(iter(sizes))
    assert size is not None
    stored_bits = 8 if bits == {8} else 4
    middle = 2 ** (stored_bits - 1)
    # The first column of each group tells which of the part's own groups it is in.
    scale = np.concatenate([part.scale[:, part.group_of[::size]] for part in parts])
    zero = np.concatenate([part.zero[:, part.group_of[::size]] for part in parts]).astype(np.int16) - middle
    values = np.concatenate([part.values for part in parts]).astype(np.int16) - middle
    is_half = bool(np.array_equal(scale.astype(np.float16).astype(np.float32), scale))
    scheme = WeightScheme(stored_bits, size, not zero.any(), "float16" if is_half else "float32")
    return QuantizedWeight(values.astype(np.int8), np.ascontiguousarray(scale), zero.astype(np.int8), scheme)


def _group_size(weight: GroupedWeight) -> int | None:
    """Return the largest power of two of columns that lie in one group each, or None where groups are no neighbours."""
    columns = len(weight.group_of)
    size = _MAX_GROUP
    while size >= _MIN_GROUP:
        if columns % size == 0 and bool((weight.group_of.reshape(-1, size) == weight.group_of[::size, None]).all()):
            return size
        size //= 2
    return None
