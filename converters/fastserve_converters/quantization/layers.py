"""The layers of a model that can be quantized, which scheme each gets, and their weights as integers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch

from fastserve_converters.models.model import TracedPart
from fastserve_converters.models.samples import Samples, batches
from fastserve_converters.precisions import Precision, WeightScheme
from fastserve_converters.quantization.weights import QuantizedWeight, fits, quantize_nearest
from fastserve_runtime.errors import EnvironmentFailure

Assignment = Mapping[str, WeightScheme]
"""Torch module name → scheme; layers that stay in float are absent."""

LINEAR = "linear"
EMBEDDING = "embedding"
_KINDS: tuple[tuple[type[torch.nn.Module], str], ...] = (
    (torch.nn.Linear, LINEAR),
    (torch.nn.Embedding, EMBEDDING),
)


def quantizable_layers(module: torch.nn.Module) -> dict[str, str]:
    """Return the names of layers with a weight matrix → `linear` or `embedding`. A shared layer is named once."""
    return {name: kind for name, layer in module.named_modules() for type_, kind in _KINDS if isinstance(layer, type_)}


def weight_of(module: torch.nn.Module, layer: str) -> torch.Tensor:
    """Return a layer's weight, shape [rows, columns]."""
    weight = module.get_submodule(layer).weight
    assert isinstance(weight, torch.Tensor)
    return weight.detach()


def assignment(module: torch.nn.Module, plan: Precision, given: Mapping[str, Any] | None = None) -> Assignment:
    """Return the scheme of every layer that a precision quantizes.

    A layer that a scheme does not fit, since its columns make no whole groups, is stored in int8, a scale a row.

    Args:
        module: the model in edge form.
        plan: the precision.
        given: for a mixed precision, layer → the fields of its scheme, or None for float.

    Raises:
        EnvironmentFailure: an assignment names a layer that the model does not have.
    """
    kinds = quantizable_layers(module)
    chosen: dict[str, WeightScheme | None]
    if given is not None:
        unknown = sorted(given.keys() - kinds.keys())
        if unknown:
            raise EnvironmentFailure(f"The assignment names the layer '{unknown[0]}', which the model does not have.")
        chosen = {name: None if given.get(name) is None else WeightScheme(**given[name]) for name in kinds}
    else:
        by_kind = {LINEAR: plan.linear, EMBEDDING: plan.embedding}
        chosen = {name: by_kind[kind] for name, kind in kinds.items()}
    return {
        name: scheme if fits(tuple(weight_of(module, name).shape), scheme) else WeightScheme(8)
        for name, scheme in chosen.items()
        if scheme is not None
    }


def quantized_weights(
    module: torch.nn.Module, assignment: Assignment, rounding: str, samples: Samples
) -> dict[str, QuantizedWeight]:
    """Return the integers of every layer in an assignment.

    Args:
        module: the model in edge form.
        assignment: see `assignment`.
        rounding: `nearest` or `gptq`; GPTQ is for linear layers of 4 bits, the rest is rounded to nearest.
        samples: calibration inputs, which GPTQ needs.

    Raises:
        EnvironmentFailure: a weight is NaN or infinite, with the layer's name.
    """
    check_finite(module)
    kinds = quantizable_layers(module)
    compensated = [n for n, s in assignment.items() if rounding == "gptq" and kinds[n] == LINEAR and s.bits < 8]
    found: dict[str, QuantizedWeight] = {}
    if compensated:
        from fastserve_converters.quantization.gptq import gptq

        found = gptq(module, {name: assignment[name] for name in compensated}, samples)
    return {
        name: found[name] if name in found else quantize_nearest(weight_of(module, name).numpy(), scheme)
        for name, scheme in assignment.items()
    }


def check_finite(module: torch.nn.Module) -> None:
    """Refuse weights that no grid holds.

    Raises:
        EnvironmentFailure: naming the first such layer and the value.
    """
    for name, parameter in module.named_parameters():
        values = parameter.detach()
        if not bool(torch.isfinite(values).all()):
            bad = values[~torch.isfinite(values)].flatten()
            layer, _, kind = name.rpartition(".")
            raise EnvironmentFailure(
                f"The {kind} of the layer '{layer}' has {bad.numel()} values that are not finite, such as {bad[0]}.",
                "Train or convert the checkpoint again: such a model cannot be quantized.",
            )


def check_activations(part: TracedPart, samples: Samples) -> None:
    """Refuse a model whose layers give NaN or infinity on calibration data.

    Raises:
        EnvironmentFailure: naming the first such layer.
    """
    first: list[str] = []

    def look(name: str) -> Callable[[torch.nn.Module, Any, Any], None]:
        def hook(_module: torch.nn.Module, _given: Any, output: Any) -> None:
            if not first and isinstance(output, torch.Tensor) and not _is_finite(output):
                first.append(name)

        return hook

    with ExitStack() as hooks, torch.no_grad():
        for name, layer in part.module.named_modules():
            if not any(layer.children()):
                hooks.callback(layer.register_forward_hook(look(name)).remove)
        for batch in batches(samples, part.batch):
            part.module(**{name: torch.from_numpy(value) for name, value in batch.items()})
            if first:
                raise EnvironmentFailure(
                    f"The layer '{first[0]}' gives values that are not finite on calibration data.",
                    "Such a model cannot be quantized with calibration; look for what that layer is given.",
                )


def _is_finite(values: torch.Tensor) -> bool:
    # One pass, where nearly all are: a sum is finite only if all that is summed is.
    return math.isfinite(float(values.sum())) or bool(torch.isfinite(values).all())
