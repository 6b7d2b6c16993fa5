"""Sentences of their own length: cutting padding off where a graph takes fewer tokens, and putting it back behind.

A model may take any number of tokens up to its length, or have one graph for each of several lengths, or exactly one
length. What the mask calls padding at the end of a sample need not be computed in the first two cases, and most of a
sentence's time is spent there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastserve_runtime.bundle.axes import TOKENS, dim_of, place_of
from fastserve_runtime.bundle.tensor_specs import Dim, Signature

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastserve_runtime.sessions.session import Tensor, Tensors

MASK = "attention_mask"


@dataclass(frozen=True)
class Fit:
    """The graph that takes a sample with the least padding, and how many tokens it is given."""

    graph: str
    tokens: int


def graph_for(graphs: Mapping[str, Signature], tokens: int) -> Fit | None:
    """Return the graph that takes so many tokens with the least padding; None if all take fewer.

    Args:
        graphs: a session's; each has an input `attention_mask` with an axis of tokens.
        tokens: how many a sample has.
    """
    fits = []
    for name, signature in graphs.items():
        minimum, maximum = _bounds(signature)
        if tokens <= maximum:
            fits.append(Fit(name, max(tokens, minimum)))
    return min(fits, key=lambda fit: fit.tokens, default=None)


def full_graph(graphs: Mapping[str, Signature]) -> str:
    """Return the name of the graph that takes the most tokens; the first one where no graph takes any."""
    if not takes_tokens(graphs):
        return next(iter(graphs))
    return max(graphs, key=lambda name: _bounds(graphs[name])[1])


def takes_tokens(graphs: Mapping[str, Signature]) -> bool:
    """Whether every graph has a mask over tokens."""
    return all(any(s.name == MASK and TOKENS in s.axes for s in signature.inputs) for signature in graphs.values())


def own_tokens(inputs: Tensors) -> NDArray[np.intp]:
    """Return how many tokens each sample has before its padding at the end, shape [samples]."""
    mask = np.asarray(inputs[MASK]) != 0
    # A sample of padding alone is left as it is: argmax gives 0 for it.
    return np.asarray(mask.shape[1] - np.argmax(mask[:, ::-1], axis=1), np.intp)


def cut(inputs: Tensors, signature: Signature, tokens: int) -> dict[str, Tensor]:
    """Return inputs with so many tokens of each sample; inputs that are not by token stay.

    Args:
        inputs: by name.
        signature: of the graph that they are for, which tells the inputs that are by token.
        tokens: how many are kept.
    """
    places = {spec.name: place_of(spec, TOKENS) for spec in signature.inputs}
    return {name: _cut(value, places.get(name), tokens) for name, value in inputs.items()}


def filled_up(outputs: Tensors, signature: Signature, tokens: int, width: int) -> dict[str, Tensor]:
    """Return outputs with zeros behind their tokens, so that samples of any length have one shape.

    Args:
        outputs: of a graph that ran on so many tokens.
        signature: the graph's, which tells the outputs that are by token.
        tokens: how many it ran on.
        width: how many there should be.
    """
    places = {spec.name: place_of(spec, TOKENS) for spec in signature.outputs}
    filled = {}
    for name, value in outputs.items():
        place = places.get(name)
        if place is not None and value.shape[place] == tokens < width:
            value = np.pad(value, [(0, width - tokens if axis == place else 0) for axis in range(value.ndim)])
        filled[name] = value
    return filled


def _cut(value: Tensor, place: int | None, tokens: int) -> Tensor:
    if place is None:
        return value
    return np.ascontiguousarray(value[(slice(None),) * place + (slice(tokens),)])


def _length(signature: Signature) -> Dim:
    mask = next(spec for spec in signature.inputs if spec.name == MASK)
    dim = dim_of(mask, TOKENS)
    assert dim is not None  # `takes_tokens` has been asked
    return dim


def _bounds(signature: Signature) -> tuple[int, int]:
    dim = _length(signature)
    return (dim, dim) if isinstance(dim, int) else (max(dim.min, 1), dim.max)
