"""The weights of a quantized checkpoint: layers that are quantized, and all others as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.checkpoints.quantized.description import Quantization
from fastserve_converters.checkpoints.quantized.grouped_weight import GroupedWeight
from fastserve_converters.checkpoints.stored_tensors import SAFETENSORS
from fastserve_runtime.errors import UsageError

if TYPE_CHECKING:
    import torch

_REMEDY = "Download the checkpoint again, or export the model that it was made from."


@dataclass(frozen=True)
class StoredLayers:
    """Access to the tensors of a quantized checkpoint.

    Attributes:
        quantization: what it says of itself.
        files: its safetensors files.
    """

    quantization: Quantization
    files: tuple[Path, ...]

    def quantized(self) -> Iterator[tuple[str, GroupedWeight | NDArray[np.float32]]]:
        """Return each quantized layer's name and its weight, [outputs, inputs].

        Raises:
            UsageError: a layer's parts do not fit each other.
        """
        for layer, names in self._layers().items():
            yield layer, self._read(layer, names)

    def others(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Return the tensors that belong to no quantized layer's weight, and say something."""
        layers = self._layers()
        parts = {name for names in layers.values() for name in names.values()}
        for name, file in self._names().items():
            if name not in parts and name.rpartition(".")[2] not in self.quantization.layout.LEFT_OUT:
                yield name, _tensor(file, name)

    def _read(self, layer: str, names: Mapping[str, str]) -> GroupedWeight | NDArray[np.float32]:
        files = self._names()
        parts = {ending: _array(_tensor(files[name], name)) for ending, name in names.items()}
        try:
            return self.quantization.layout.read(parts, self.quantization.settings)
        except (ValueError, KeyError, IndexError, TypeError) as error:
            why = f"it has no '{error.args[0]}'" if isinstance(error, KeyError) else str(error)
            raise UsageError(f"The quantized layer '{layer}' cannot be read: {why}.", _REMEDY) from error

    def _layers(self) -> dict[str, dict[str, str]]:
        """Return the names of each quantized layer's tensors by their endings."""
        layout = self.quantization.layout
        found: dict[str, dict[str, str]] = {}
        for name in self._names():
            for ending in layout.PARTS:
                if name.endswith(f".{ending}"):
                    found.setdefault(name.removesuffix(f".{ending}"), {})[ending] = name
        return {layer: names for layer, names in sorted(found.items()) if layout.MARKS & names.keys()}

    def _names(self) -> dict[str, Path]:
        from safetensors import safe_open

        names: dict[str, Path] = {}
        for file in self.files:
            with safe_open(str(file), framework="pt") as opened:
                names |= dict.fromkeys(opened.keys(), file)
        return names


def stored_layers(quantization: Quantization, folder: Path, weights: Sequence[str]) -> StoredLayers:
    """Return access to a checkpoint's tensors.

    Raises:
        UsageError: they are pickles.
    """
    if not all(name.endswith(SAFETENSORS) for name in weights):
        raise UsageError(
            f"The quantized weights '{weights[0]}' are a pickle, which is read for plain weights only.",
            "Save the checkpoint as safetensors.",
        )
    return StoredLayers(quantization, tuple(folder / name for name in weights))


def dequantized_state(layers: StoredLayers, empty: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights of a model, those that are quantized as the reals that they stand for.

    Args:
        layers: of the checkpoint.
        empty: a model of the checkpoint's config.

    Raises:
        UsageError: a layer cannot be read, or its weight has another shape than the model wants.
    """
    import torch

    state = dict(layers.others())
    modules = dict(empty.named_modules())
    wanted = {name for name, _ in empty.named_parameters()}
    for layer, weight in layers.quantized():
        reals = weight.dequantized() if isinstance(weight, GroupedWeight) else weight
        # Transformers' `Conv1D` has its weight the other way round.
        is_turned = type(modules.get(layer)).__name__ == "Conv1D"
        state[f"{layer}.weight"] = torch.from_numpy(np.ascontiguousarray(reals.T if is_turned else reals))
        bias = f"{layer}.bias"
        # Some libraries write a bias for every layer.
        if bias in state and bias not in wanted and layer in modules and not bool(state[bias].any()):
            del state[bias]
    return state


def _tensor(file: Path, name: str) -> torch.Tensor:
    from safetensors import safe_open

    with safe_open(str(file), framework="pt") as opened:
        return opened.get_tensor(name)  # type: ignore[no-any-return]


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    import torch

    is_plain = tensor.dtype in {torch.float32, torch.float16} or not tensor.dtype.is_floating_point
    return tensor.numpy() if is_plain else tensor.float().numpy()
