"""Which layers of a part can be quantized, and which of them must have the same scheme."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from fastserve_converters.models.samples import Samples, first
from fastserve_converters.models.stages import StagedPart

LINEAR = "linear"
EMBEDDING = "embedding"
_KINDS: tuple[tuple[type[torch.nn.Module], str], ...] = (
    (torch.nn.Linear, LINEAR),
    (torch.nn.Embedding, EMBEDDING),
)


@dataclass(frozen=True)
class LayerGroup:
    """Layers that run on one input (query, key, value), or a layer that stands alone.

    Attributes:
        layers: names of their stored weights.
        kind: whose scheme of a precision they have, `linear` or `embedding`.
        stage: the first of the part's stages that they are in.
    """

    layers: tuple[str, ...]
    kind: str
    stage: int


def quantizable_layers(module: torch.nn.Module) -> dict[str, str]:
    """Return the names of layers with a weight matrix → `linear` or `embedding`. A shared layer is named once."""
    return {name: kind for name, layer in module.named_modules() for type_, kind in _KINDS if isinstance(layer, type_)}


def weight_of(module: torch.nn.Module, layer: str) -> torch.Tensor:
    """Return a layer's weight, shape [rows, columns]."""
    weight = module.get_submodule(layer).weight
    assert isinstance(weight, torch.Tensor)
    return weight.detach()


@contextmanager
def watched_inputs(
    module: torch.nn.Module, names: list[str], see: Callable[[str, torch.Tensor], None]
) -> Iterator[None]:
    """Call `see(name, input)` whenever one of the layers runs inside the block."""
    hooks = [
        module.get_submodule(name).register_forward_pre_hook(lambda _, given, name=name: see(name, given[0]))
        for name in names
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class LayerCall:
    """A call of a linear layer on one sample, in one of the part's stages."""

    layer: str
    stage: int
    input: torch.Tensor


def layer_calls(part: StagedPart, samples: Samples) -> list[LayerCall]:
    """Return the calls of the part's linear layers on the first sample, in order. A shared layer is called often."""
    calls: list[LayerCall] = []
    names = [name for name, kind in quantizable_layers(part.module).items() if kind == LINEAR]
    with torch.no_grad():
        (state,) = part.first_states(first(samples, 1))
        for number, stage in enumerate(part.stages):

            def see(name: str, value: torch.Tensor, number: int = number) -> None:
                calls.append(LayerCall(name, number, value))

            with watched_inputs(part.module, names, see):
                state = stage(state)
    return calls


def by_input(calls: Iterable[LayerCall]) -> list[list[LayerCall]]:
    """Return the first calls of layers, those that take one input (query, key, value) together."""
    groups: list[list[LayerCall]] = []
    known: set[str] = set()
    for call in calls:
        if call.layer in known:
            continue
        known.add(call.layer)
        if groups and call.input is groups[-1][-1].input:
            groups[-1].append(call)
        else:
            groups.append([call])
    return groups


def layer_groups(part: StagedPart, samples: Samples) -> list[LayerGroup]:
    """Return a part's layers, embeddings first, then the linear ones in the order in which they run.

    Args:
        part: of the model.
        samples: calibration inputs; the first one is run.
    """
    calls = layer_calls(part, samples)
    stages = {call.layer: call.stage for call in reversed(calls)}
    alone = [LayerGroup((name,), kind, stages.get(name, 0)) for name, kind in part.layers.items() if kind == EMBEDDING]
    groups = by_input(call for call in calls if part.layers.get(call.layer) == LINEAR)
    return [*alone, *(LayerGroup(tuple(call.layer for call in g), LINEAR, g[0].stage) for g in groups)]
