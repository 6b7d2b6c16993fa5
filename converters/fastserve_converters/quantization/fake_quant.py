"""The same quantized model in PyTorch: weights rounded as they are stored, activations likewise.

It is a second opinion of what an artifact should compute, and the means by which the loss of each layer is found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from fastserve_converters.precisions import Activations
from fastserve_converters.quantized_weight import QuantizedWeight


@contextmanager
def fake_quantized(
    module: torch.nn.Module, weights: Mapping[str, QuantizedWeight], activations: Activations
) -> Iterator[None]:
    """Make a model compute with quantized weights inside the block.

    Args:
        module: the model; it is put back at the end.
        weights: layer → its quantized weight.
        activations: with `dynamic-int8`, the inputs of these linear layers are rounded to 8 bits, a scale a token.
    """
    originals = {name: module.get_submodule(name).weight for name in weights}
    hooks = []
    try:
        for name, weight in weights.items():
            layer = module.get_submodule(name)
            layer.weight = torch.nn.Parameter(torch.from_numpy(weight.dequantized()), requires_grad=False)
            if activations == "dynamic-int8" and isinstance(layer, torch.nn.Linear):
                hooks.append(layer.register_forward_pre_hook(_round_input))
        yield
    finally:
        for name, original in originals.items():
            module.get_submodule(name).weight = original
        for hook in hooks:
            hook.remove()


def rounded_by_token(values: torch.Tensor) -> torch.Tensor:
    """Return values rounded to 256 steps between the least and the largest of each row of the last axis, and zero."""
    low = values.amin(-1, keepdim=True).clamp(max=0)
    scale = ((values.amax(-1, keepdim=True).clamp(min=0) - low) / 255).clamp(min=1e-12)
    zero = torch.round(-low / scale)
    return (torch.clamp(torch.round(values / scale) + zero, 0, 255) - zero) * scale


def _round_input(_: torch.nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    return (rounded_by_token(given[0]), *given[1:])
