"""Balancing what a layer's int8 input loses against what its int8 weights lose (SmoothQuant, arXiv 2211.10438).

ONNX Runtime finds one scale for a whole activation tensor, so a few channels that are far larger than the others cost
all of them their precision. Dividing each channel of the input by a factor, and multiplying its weights by it, changes
nothing in real numbers. The division is a multiplication of its own in the graph: the tensor also feeds a residual
sum, or comes out of a GELU, so it cannot be folded into what comes before. It is therefore done only where it pays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.models.dynamic_shapes import MIN_TOKENS

if TYPE_CHECKING:
    import torch

    from fastserve_converters.models.samples import Samples
    from fastserve_converters.quantized_weight import QuantizedWeight

_STRENGTHS = np.linspace(0.3, 1.0, 8)
_MIN_GAIN, _MIN_GAIN_BY_TOKEN = 3.0, 3.0
"""What is done must bring the power of the layer's rounding noise down by at least this factor."""
_LARGEST_FACTOR = 64.0
_STEPS, _WEIGHT_STEPS = 255, 127
_SAMPLES = 64


@dataclass(frozen=True)
class InputStatistics:
    """What goes into a linear layer.

    Attributes:
        low: least value of each channel in each sample, and 0; shape [samples, channels].
        high: likewise the largest.
        power: mean square of each channel over all tokens.
        token_range: mean square of the largest magnitude of a token.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    power: NDArray[np.float32]
    token_range: float


def input_statistics(
    module: torch.nn.Module, layers: Iterable[str], samples: Iterable[Mapping[str, NDArray[np.generic]]]
) -> dict[str, InputStatistics]:
    """Run samples and return the statistics of the layers' inputs; layers that are not run are absent."""
    import torch

    from fastserve_converters.models.layer_groups import watched_inputs

    found: dict[str, list[torch.Tensor]] = {name: [] for name in layers}

    def keep(name: str, value: torch.Tensor) -> None:
        found[name].append(value.reshape(-1, value.shape[-1]))

    with watched_inputs(module, list(found), keep), torch.no_grad():
        for _, sample in zip(range(_SAMPLES), samples, strict=False):
            module(**{name: torch.from_numpy(value) for name, value in sample.items()})
    return {
        name: InputStatistics(
            np.stack([t.amin(0).clamp(max=0).numpy() for t in tensors]),
            np.stack([t.amax(0).clamp(min=0).numpy() for t in tensors]),
            torch.cat(tensors).square().mean(0).numpy(),
            float(torch.cat(tensors).abs().amax(1).square().mean()),
        )
        for name, tensors in found.items()
        if tensors
    }


@dataclass(frozen=True)
class Balancing:
    """What is done to the input of a linear layer before it becomes int8.

    Attributes:
        factors: by which its channels are divided, and the weights multiplied; None for none.
        by_token: whether each token is divided by its own largest magnitude, and the output multiplied by it.
    """

    factors: NDArray[np.float32] | None = None
    by_token: bool = False


def find_balancing(
    module: torch.nn.Module, weights: Mapping[str, QuantizedWeight], calibration: Samples
) -> dict[str, Balancing]:
    """Return what is done for the linear layers that gain by it; nothing where there is no calibration data.

    Layers with the same input (the projections of an attention) get the same. Scales by token are only for models
    with weights of fewer than eight bits, which have no accuracy left to lose: in others they cost more than they gain.

    Args:
        module: the exportable model.
        weights: of the layers whose inputs become int8, and others.
        calibration: inputs by name, shape [samples, length]; they are cut to their own tokens.
    """
    from fastserve_converters.models.samples import single_samples

    if not calibration:
        return {}
    may_scale_tokens = any(w.scheme.bits < 8 and _is_linear(module, name) for name, w in weights.items())
    layers = [name for name in weights if _is_linear(module, name)]
    statistics = input_statistics(module, layers, single_samples(calibration, min_tokens=MIN_TOKENS))
    sharing: dict[bytes, list[str]] = {}
    for name, found in statistics.items():
        sharing.setdefault(found.low.tobytes() + found.high.tobytes(), []).append(name)
    chosen: dict[str, Balancing] = {}
    for names in sharing.values():
        rows = np.concatenate([weights[name].dequantized() for name in names])
        balancing = choose_balancing(statistics[names[0]], rows, may_scale_tokens=may_scale_tokens)
        if balancing.by_token or balancing.factors is not None:
            chosen |= dict.fromkeys(names, balancing)
    return chosen


def choose_balancing(inputs: InputStatistics, weight: NDArray[np.float32], *, may_scale_tokens: bool) -> Balancing:
    """Choose what loses least: scales by token, which take five operators, only where they gain as much again."""
    factors = balancing_factors(inputs, weight)
    ones = np.ones(weight.shape[1], np.float32)
    lost = noise(inputs, weight, ones if factors is None else factors)
    # A token's range is taken as twice its largest magnitude at most.
    steps = 4 * inputs.token_range / _STEPS**2
    of_weights = float(np.square(np.abs(weight).max(axis=1) / _WEIGHT_STEPS).sum() * inputs.power.sum())
    by_token = float(steps * np.square(weight).sum()) + of_weights
    if may_scale_tokens and by_token * _MIN_GAIN_BY_TOKEN < lost:
        return Balancing(by_token=True)
    return Balancing(factors)


def balancing_factors(inputs: InputStatistics, weight: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Return the factor of each channel that loses least, or None where balancing is not worth its operator.

    Args:
        inputs: of the layer, or of the layers that share the input.
        weight: their weights one above the other, shape [outputs, inputs].
    """
    largest = np.maximum(np.maximum(-inputs.low, inputs.high).max(axis=0), 1e-5)
    columns = np.maximum(np.abs(weight).max(axis=0), 1e-5)
    best, best_factors = noise(inputs, weight, np.ones_like(largest)) / _MIN_GAIN, None
    for strength in _STRENGTHS:
        factors = largest**strength / columns ** (1 - strength)
        factors = factors / np.exp(np.log(factors).mean())
        factors = np.clip(factors, 1 / _LARGEST_FACTOR, _LARGEST_FACTOR).astype(np.float32)
        lost = noise(inputs, weight, factors)
        if lost < best:
            best, best_factors = lost, factors
    return best_factors


def noise(inputs: InputStatistics, weight: NDArray[np.float32], factors: NDArray[np.float32]) -> float:
    """Estimate the power of a layer's rounding noise, with uniform noise of step²/12 in inputs and weights."""
    ranges = (inputs.high / factors).max(axis=1) - (inputs.low / factors).min(axis=1)
    scaled = weight * factors
    of_inputs = float(np.square(ranges / _STEPS).mean() * np.square(scaled).sum())
    steps = np.abs(scaled).max(axis=1) / _WEIGHT_STEPS
    of_weights = float(np.square(steps).sum() * (inputs.power / np.square(factors)).sum())
    return of_inputs + of_weights


def _is_linear(module: torch.nn.Module, name: str) -> bool:
    import torch

    return isinstance(module.get_submodule(name), torch.nn.Linear)
