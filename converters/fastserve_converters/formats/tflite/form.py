"""The exportable model as LiteRT takes it best.

No constant that depends on the number of tokens, no operator for nothing.

Measured with XNNPACK: LayerNorm in plain operators of three dimensions saves the converter's own lowering sixty
reshapes, and scaling the query's weights instead of every score saves a pass over the largest tensor.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fastserve_converters.models.exportable_model import ConstantRows
from fastserve_converters.models.sentence_pooling import Places
from fastserve_converters.quantized_weight import QuantizedWeight

TABLE = "table"
"""What a layer that stands for an embedding calls the embedding that it looks up."""
_ATTENTION = "fastserve-without-batch"
QUERIES = ("query", "q_lin", "q_proj")
"""What the encoder families call the layer whose output is scaled before attention."""


class PlainLayerNorm(torch.nn.Module):
    """Layer normalization over the last dimension (arXiv 1607.06450), written out."""

    def __init__(self, norm: torch.nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """Normalize."""
        centred = value - value.mean(-1, keepdim=True)
        variance = (centred * centred).mean(-1, keepdim=True)
        normal = centred * torch.rsqrt(variance + self.eps)
        scaled = normal if self.weight is None else normal * self.weight
        return scaled if self.bias is None else scaled + self.bias


class Positions:
    """Where the model's root leaves the position of every token for the layers that look it up."""

    def __init__(self) -> None:
        self.current: torch.Tensor | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Positions:
        """Copies of a model must not share what one call leaves."""
        own = memo.setdefault(id(self), Positions())
        assert isinstance(own, Positions)
        return own

    def set_from(self, mask: torch.Tensor) -> None:
        """Count the tokens from 0 with operators whose shapes follow the mask's."""
        there = (mask > -1.0).to(torch.float32)
        self.current = (torch.cumsum(there, 1) - 1.0).to(torch.int32)


class PositionRows(torch.nn.Module):
    """Stands for constant position embeddings where the number of tokens is open: looks their rows up."""

    def __init__(self, rows: torch.Tensor, positions: Positions) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(rows.shape[1], rows.shape[2], _weight=rows[0])
        self.positions = positions

    def forward(self, _indices: torch.Tensor) -> torch.Tensor:
        """Return the rows, shape [1, tokens, width]."""
        assert self.positions.current is not None
        rows: torch.Tensor = self.table(self.positions.current)
        return rows


class CountedPlaces(torch.nn.Module):
    """Stands for the constant places of tokens where their number is open: counts them."""

    def forward(self, weights: torch.Tensor) -> torch.Tensor:
        """Return the places from 1 on, shape [n, tokens, 1], with operators whose shapes follow the weights'."""
        # A product with 0 would become a constant.
        return torch.cumsum((weights > -1.0).to(torch.float32), 1)


def attention_without_batch(
    _layer: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float,
    **_settings: Any,
) -> tuple[torch.Tensor, None]:
    """Attend for a batch of one with products of three dimensions, which BATCH_MATMUL takes without a reshape.

    Args:
        query: shape [1, heads, tokens, width of a head].
        key: likewise.
        value: likewise.
        attention_mask: additive, shape [1, 1, 1, tokens].
        scaling: of the scores.

    Returns:
        Shape [1, tokens, heads, width of a head], and no weights.
    """
    heads, _, width = query.shape[1:]
    # The layers have just transposed them; undone and done again, the converter has one transposition of all.
    by_head = [t.transpose(1, 2).reshape(-1, heads, width).transpose(0, 1) for t in (query, key, value)]
    scores = torch.matmul(by_head[0], by_head[1].transpose(1, 2))
    if scaling != 1.0:
        scores = scores * scaling
    shares = torch.softmax(scores + attention_mask[0], -1)
    return torch.matmul(shares, by_head[2]).transpose(0, 1).unsqueeze(0), None


class Form:
    """A copy of an exportable model for LiteRT, with its quantized weights under the names that they have there.

    Attributes:
        module: the copy.
        weights: its quantized weights, by the names of its modules.
        factors: torch module name → what the layer's output is multiplied with, where it is.
    """

    def __init__(self, exportable_model: torch.nn.Module, weights: Mapping[str, QuantizedWeight]) -> None:
        """Copy and rewrite.

        Args:
            exportable_model: the model; it is left as it is.
            weights: torch module name → quantized weight; see `ExportJob.weights`.
        """
        self.module = copy.deepcopy(exportable_model).eval()
        self.weights = dict(weights)
        self.factors: dict[str, float] = {}
        self._open_positions()
        self._write_norms_out()
        self._fold_scaling()
        self._drop_batch()

    def _open_positions(self) -> None:
        positions = Positions()
        for name, layer in list(self.module.named_modules()):
            if isinstance(layer, ConstantRows) and layer.rows.shape[1] > 1:
                self.module.set_submodule(name, PositionRows(layer.rows, positions))
            elif isinstance(layer, Places):
                self.module.set_submodule(name, CountedPlaces())

        def count(_module: torch.nn.Module, _args: Any, kwargs: dict[str, Any]) -> None:
            if "attention_mask" in kwargs:
                positions.set_from(kwargs["attention_mask"])

        self.module.register_forward_pre_hook(count, with_kwargs=True)

    def _write_norms_out(self) -> None:
        for name, layer in list(self.module.named_modules()):
            if isinstance(layer, torch.nn.LayerNorm) and len(layer.normalized_shape) == 1:
                self.module.set_submodule(name, PlainLayerNorm(layer))

    def _fold_scaling(self) -> None:
        for name, parent in self.module.named_modules():
            factor = getattr(parent, "scaling", None)
            query = next((q for q in QUERIES if isinstance(getattr(parent, q, None), torch.nn.Linear)), None)
            if query is None or not isinstance(factor, float) or factor <= 0:
                continue
            linear: torch.nn.Linear = getattr(parent, query)
            with torch.no_grad():
                linear.weight.mul_(factor)
                if linear.bias is not None:
                    linear.bias.mul_(factor)
            parent.scaling = 1.0
            full = f"{name}.{query}".lstrip(".")
            self.factors[full] = factor
            if full in self.weights:
                stored = self.weights[full]
                self.weights[full] = replace(stored, scale=(stored.scale * np.float32(factor)).astype(np.float32))

    def _drop_batch(self) -> None:
        from transformers import AttentionInterface

        AttentionInterface.register(_ATTENTION, attention_without_batch)
        for module in self.module.modules():
            config: Any = getattr(module, "config", None)
            if getattr(config, "_attn_implementation", None) == "eager":
                # The setter asks whether the model's class knows the name.
                config._attn_implementation_internal = _ATTENTION
