"""The modules of sentence-transformers that have weights, loaded into PyTorch."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fastserve_converters.checkpoints.sentence_transformers.module_kinds import SAFE_WEIGHTS, weights_of
from fastserve_converters.checkpoints.sentence_transformers.modules.dense import Dense
from fastserve_converters.checkpoints.sentence_transformers.modules.layer_norm import LayerNorm
from fastserve_converters.checkpoints.sentence_transformers.modules.weighted_layer_pooling import WeightedLayerPooling
from fastserve_runtime.errors import UsageError

if TYPE_CHECKING:
    from fastserve_converters.checkpoints.sentence_transformers import SentenceHead
    from fastserve_converters.checkpoints.sentence_transformers.modules import SentenceModule

_PREFIXES = ("linear.", "norm.")


class ResidualDense(torch.nn.Module):
    """A linear layer with an activation, and its input, or a projection of it, added to the result."""

    def __init__(self, linear: torch.nn.Linear, activation: torch.nn.Module) -> None:
        super().__init__()
        self.linear = linear
        self.activation = activation
        sizes = linear.in_features, linear.out_features
        self.residual = None if sizes[0] == sizes[1] else torch.nn.Linear(*sizes, bias=False)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """Map vectors, shape [..., in_features] → [..., out_features]."""
        result: torch.Tensor = self.activation(self.linear(value))
        return result + (value if self.residual is None else self.residual(value))


class LayerMean(torch.nn.Module):
    """A weighted mean of the hidden states of layers, the first of them left out."""

    def __init__(self, module: WeightedLayerPooling) -> None:
        super().__init__()
        self.first_layer = module.first_layer
        self.layer_weights = torch.nn.Parameter(torch.ones(module.layers + 1 - module.first_layer))
        self.shares: tuple[float, ...] = ()
        self.register_load_state_dict_post_hook(_take_shares)  # type: ignore[no-untyped-call]

    def forward(self, layers: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return the mean, shape [n, tokens, d], of the states of every layer, each of that shape."""
        counted = layers[self.first_layer :]
        if len(counted) != len(self.layer_weights):
            raise UsageError(
                f"The checkpoint's WeightedLayerPooling has weights for {len(self.layer_weights)} layers; the model "
                f"has {len(counted)} from layer {self.first_layer} on.",
                "Check the num_hidden_layers in its config.json.",
            )
        mean: torch.Tensor = counted[0] * self.shares[0]
        for states, share in zip(counted[1:], self.shares[1:], strict=True):
            mean = mean + states * share
        return mean


def _take_shares(layer: torch.nn.Module, _: object) -> None:
    """Make plain numbers of the weights that were loaded: no exporter takes numbers out of a tensor."""
    assert isinstance(layer, LayerMean)
    weights = layer.layer_weights.detach()
    layer.shares = tuple((weights / weights.sum()).tolist())


def load_layers(root: Path, head: SentenceHead) -> list[torch.nn.Module]:
    """Load what a head's modules have of weights, in their order; `weights_of` has allowed the files before.

    Raises:
        UsageError: weights are unreadable, missing, of another shape, or not finite.
    """
    layers = [layer for module in head.modules if (layer := _empty(module)) is not None]
    for layer, folder in zip(layers, head.weight_folders, strict=True):
        _load(layer, root, folder)
    return layers


def _empty(module: SentenceModule) -> torch.nn.Module | None:
    if isinstance(module, Dense):
        linear = torch.nn.Linear(module.in_features, module.out_features, bias=module.bias)
        activation = getattr(torch.nn, module.activation)()
        return ResidualDense(linear, activation) if module.residual else torch.nn.Sequential(linear, activation)
    if isinstance(module, LayerNorm):
        return torch.nn.LayerNorm(module.width)
    if isinstance(module, WeightedLayerPooling):
        return LayerMean(module)
    return None


def _load(layer: torch.nn.Module, root: Path, folder: str) -> None:
    file = weights_of(root, folder, allow_pickle=True)
    weights = _read(file, folder)
    bad = [name for name, value in weights.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise UsageError(f"The checkpoint's weight '{bad[0]}' in '{folder}' has values that are not finite.")
    if isinstance(layer, torch.nn.Sequential | torch.nn.LayerNorm):
        target: torch.nn.Module = layer[0] if isinstance(layer, torch.nn.Sequential) else layer
        weights = {_without_prefix(name): value for name, value in weights.items()}
    else:
        target = layer
    try:
        target.load_state_dict({name: value.float() for name, value in weights.items()})
    except RuntimeError as error:
        reason = " ".join(str(error).split()).partition(": ")[2] or str(error)
        raise UsageError(
            f"The checkpoint's weights in '{folder}' are not those of its config: {reason}",
            "Save the whole model again with sentence-transformers.",
        ) from error


def _without_prefix(name: str) -> str:
    return next((name.removeprefix(p) for p in _PREFIXES if name.startswith(p)), name)


def _read(file: Path, folder: str) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.name == SAFE_WEIGHTS:
            found: object = load_file(str(file))
        else:
            found = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, ValueError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(f"The checkpoint's weights '{folder}/{file.name}' cannot be read: {lines[0]}") from error
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise UsageError(f"The checkpoint's weights '{folder}/{file.name}' are not named tensors.")
    return found
