"""What the dimensions of tensors mean: each has a name, by which code finds it, whatever its place.

A manifest names the axes of every tensor. Bundles of before schema version 1.1 and bare model files do not; the tensors
that they may have are known by name, and `named` gives their axes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from fastserve_runtime.bundle.tensor_specs import Dim, Signature, TensorSpec

BATCH = "batch"
"""Samples of one call. A tensor without it is of one sample."""
TOKENS = "tokens"
"""Of a text, padding and all; also what is new in a call of a decoder."""
CHANNELS = "channels"
"""Of one place: colours, or the numbers of a vector."""
HEIGHT = "height"
WIDTH = "width"
TIME = "time"
CLASSES = "classes"
VOCABULARY = "vocabulary"
HEADS = "heads"
POSITIONS = "positions"
"""Tokens of a decoder's context: its cache and its mask have them."""

AXIS_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
"""What an axis may be called."""

_BY_TOKEN = (BATCH, TOKENS)
_OF_CACHE = re.compile(r"(past_key_values|present|new)\..*")
_OF_DECODERS = re.compile(r"positions?|past_key_values\..*")
"""What graphs that keep keys and values call their inputs beside ids and mask. Their logits are of tokens."""
_KNOWN: dict[str, tuple[tuple[str, ...], ...]] = {
    "input_ids": (_BY_TOKEN, (TOKENS,)),
    "attention_mask": (_BY_TOKEN,),
    "token_type_ids": (_BY_TOKEN,),
    "pooling_mask": (_BY_TOKEN,),
    "positions": ((TOKENS,),),
    "position": ((BATCH,),),
    "cached_positions": ((POSITIONS,),),
    "sentence_embedding": ((BATCH, CHANNELS),),
    "last_hidden_state": ((BATCH, TOKENS, CHANNELS),),
    "logits": ((BATCH, CLASSES),),
}
"""Name of a tensor → its axes, for each number of dimensions that it was written with before manifests named them."""
_DECODER_LOGITS = ((BATCH, VOCABULARY), (BATCH, TOKENS, VOCABULARY))
CACHE_AXES = (BATCH, HEADS, POSITIONS, CHANNELS)
"""Of keys and values of a decoder's context; graphs for one sample leave the first out."""


def place_of(tensor: TensorSpec, axis: str) -> int | None:
    """Return which of a tensor's dimensions is that axis; None where it has none, or its axes are not known."""
    return tensor.axes.index(axis) if axis in tensor.axes else None


def dim_of(tensor: TensorSpec, axis: str) -> Dim | None:
    """Return a tensor's dimension of that axis; None where it has none, or its axes are not known."""
    place = place_of(tensor, axis)
    return None if place is None else tensor.dims[place]


def batch_place(tensor: TensorSpec) -> int | None:
    """Return the place of the samples; the first where a bare file does not name its axes; None where there is none."""
    return place_of(tensor, BATCH) if tensor.axes or not tensor.dims else 0


def named(signature: Signature) -> Signature:
    """Return a signature whose tensors have names for their axes, where they have none and are known ones."""
    is_decoder = any(_OF_DECODERS.fullmatch(tensor.name) for tensor in signature.inputs)
    return Signature(
        tuple(_named(tensor, is_decoder=is_decoder) for tensor in signature.inputs),
        tuple(_named(tensor, is_decoder=is_decoder) for tensor in signature.outputs),
    )


def numbered_axes(dims: Sequence[object], first: str | None = None) -> tuple[str, ...]:
    """Return names for dimensions of which nothing is known but their order: `axis0`, `axis1`, ….

    Args:
        dims: the dimensions.
        first: what the first one is called instead.
    """
    return tuple(first if first is not None and i == 0 else f"axis{i}" for i in range(len(dims)))


def is_valid(axes: Iterable[str]) -> bool:
    """Whether names may be those of one tensor's axes: plain words, none of them twice."""
    names = list(axes)
    return len(set(names)) == len(names) and all(AXIS_NAME.fullmatch(name) for name in names)


def _named(tensor: TensorSpec, *, is_decoder: bool) -> TensorSpec:
    if tensor.axes or not tensor.dims:
        return tensor
    known = _KNOWN.get(tensor.name, ())
    if is_decoder and tensor.name == "logits":
        known = _DECODER_LOGITS
    elif _OF_CACHE.fullmatch(tensor.name):
        known = (CACHE_AXES, CACHE_AXES[1:])
    axes = next((axes for axes in known if len(axes) == len(tensor.dims)), ())
    return replace(tensor, axes=axes)
