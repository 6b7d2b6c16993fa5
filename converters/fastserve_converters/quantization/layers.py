"""Which scheme each layer of a part gets, and its quantized weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from fastserve_converters.models.layer_groups import EMBEDDING, LINEAR, weight_of
from fastserve_converters.models.model import Part
from fastserve_converters.precisions import Precision, WeightScheme
from fastserve_converters.quantization.weights import fits, quantize_nearest
from fastserve_converters.quantized_weight import QuantizedWeight
from fastserve_runtime.errors import EnvironmentFailure

if TYPE_CHECKING:
    from fastserve_converters.quantization.gptq import Rounder

Assignment = Mapping[str, WeightScheme]
"""Torch module name → scheme; layers that stay in float are absent."""


def assignment(part: Part, precision_spec: Precision, given: Mapping[str, Any] | None = None) -> Assignment:
    """Return the scheme of every layer that a precision quantizes.

    A layer that a scheme does not fit, since its columns make no whole groups, is stored in int8, a scale a row.

    Args:
        part: of the model.
        precision_spec: the precision.
        given: for a mixed precision, layer → the fields of its scheme, or None for float.

    Raises:
        EnvironmentFailure: an assignment names a layer that the part does not have.
    """
    kinds = part.layers
    chosen: dict[str, WeightScheme | None]
    if given is not None:
        unknown = sorted(given.keys() - kinds.keys())
        if unknown:
            raise EnvironmentFailure(f"The assignment names the layer '{unknown[0]}', which the model does not have.")
        chosen = {name: None if given.get(name) is None else WeightScheme(**given[name]) for name in kinds}
    else:
        by_kind = {LINEAR: precision_spec.linear, EMBEDDING: precision_spec.embedding}
        chosen = {name: by_kind[kind] for name, kind in kinds.items()}
    return {
        name: scheme if fits(tuple(weight_of(part.module, name).shape), scheme) else WeightScheme(8)
        for name, scheme in chosen.items()
        if scheme is not None
    }


def quantized_weights(
    part: Part,
    assignment: Assignment,
    rounding: str = "nearest",
    *,
    rounder: Callable[[], Rounder] | None = None,
    stored: Callable[[], Mapping[str, QuantizedWeight]] | None = None,
) -> dict[str, QuantizedWeight]:
    """Return the quantized weights of every layer in an assignment.

    Args:
        part: of the model.
        assignment: see `assignment`.
        rounding: `nearest`, `gptq` or `source`; GPTQ is for layers of fewer than 8 bits that multiply, and `source`
            for those that the checkpoint has integers of; the rest is rounded to nearest.
        rounder: gives what does GPTQ, where that is wanted.
        stored: gives the checkpoint's own quantized weights, where these are wanted.

    Raises:
        EnvironmentFailure: a weight is NaN or infinite, with the layer's name.
        UsageError: the checkpoint has no quantized weights of its own, and they are wanted.
    """
    check_finite(part.module)
    found: Mapping[str, QuantizedWeight] = {}
    if rounding == "gptq":
        compensated = {n: s for n, s in assignment.items() if s.bits < 8 and part.multiplies(n) is not None}
        if compensated:
            assert rounder is not None
            found = rounder().round(compensated)
    elif rounding == "source":
        assert stored is not None
        found = stored()
    return {
        name: found[name] if name in found else quantize_nearest(weight_of(part.module, name).numpy(), scheme)
        for name, scheme in assignment.items()
    }


def check_finite(module: torch.nn.Module) -> None:
    """Refuse weights that no quantization parameters fit.

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
