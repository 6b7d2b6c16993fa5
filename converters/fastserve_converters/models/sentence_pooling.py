"""What follows the Transformer in a sentence encoder, in a form that every exporter and NPU takes well.

No booleans, no integers and no gathering: a token is picked by a product with weights that are 1 there and 0 elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fastserve_converters.checkpoints.sentence_transformers.modules import SENTENCE, TOKENS
from fastserve_converters.checkpoints.sentence_transformers.modules.dense import Dense
from fastserve_converters.checkpoints.sentence_transformers.modules.layer_norm import LayerNorm
from fastserve_converters.checkpoints.sentence_transformers.modules.normalize import Normalize
from fastserve_converters.checkpoints.sentence_transformers.modules.pooling import Pooling
from fastserve_converters.models.sentence_layers import LayerMean, load_layers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fastserve_converters.checkpoints.sentence_transformers import SentenceHead

_LOWER_THAN_ALL = -1e4
"""Added to hidden values that do not count in a maximum: lower than any of a trained encoder, and finite."""


def first_columns(table: torch.Tensor, count: int) -> torch.Tensor:
    """Return the first columns of a table, shape [1, columns, ...].

    All of them without a slice, which would be exported; a count that is open while exporting is an SymInt, which must
    not be compared with a number, since the comparison would fix it.
    """
    return table if isinstance(count, int) and table.shape[1] == count else table[:, :count]


class Places(torch.nn.Module):
    """Gives the place of every token, from 1 on: a constant of which a shorter text takes the first."""

    def __init__(self, length: int) -> None:
        super().__init__()
        table = torch.arange(1, length + 1, dtype=torch.float32)[None, :, None]
        self.register_buffer("table", table, persistent=False)
        self.table: torch.Tensor

    def forward(self, weights: torch.Tensor) -> torch.Tensor:
        """Return the places, shape [1, tokens, 1], beside weights of the shape [n, tokens, 1]."""
        return first_columns(self.table, weights.shape[1])


class SentencePooling(torch.nn.Module):
    """Applies the modules of a head one after another, as sentence-transformers does.

    Args:
        head: what follows the Transformer.
        layers: its modules with weights, as `load_layers` gives them.
        length: tokens, at most.
    """

    def __init__(self, head: SentenceHead, layers: Sequence[torch.nn.Module], length: int) -> None:
        super().__init__()
        self.modules_in_order = head.modules
        self.truncate_dim = head.truncate_dim
        self.includes_prompt = head.includes_prompt
        self.layer_means = torch.nn.ModuleList(m for m in layers if isinstance(m, LayerMean))
        self.norms = torch.nn.ModuleList(m for m in layers if isinstance(m, torch.nn.LayerNorm))
        self.dense = torch.nn.ModuleList(m for m in layers if not isinstance(m, LayerMean | torch.nn.LayerNorm))
        if "weightedmean" in head.pooling:
            self.places = Places(length)

    @property
    def needs_all_layers(self) -> bool:
        """Whether it wants the hidden states of every layer."""
        return len(self.layer_means) > 0

    def forward(
        self, hidden: torch.Tensor, mask: torch.Tensor, all_layers: tuple[torch.Tensor, ...] | None = None
    ) -> torch.Tensor:
        """Return the embeddings, shape [n, d].

        Args:
            hidden: shape [n, length, width].
            mask: which tokens are pooled, one after another; float32, shape [n, length].
            all_layers: hidden states of every layer, where they are needed.
        """
        features = {TOKENS: hidden}
        means, norms, dense = iter(self.layer_means), iter(self.norms), iter(self.dense)
        for module in self.modules_in_order:
            value = features[module.source]
            if isinstance(module, Pooling):
                pooled = [self._pooled(mode, value, mask) for mode in module.modes]
                result = pooled[0] if len(pooled) == 1 else torch.cat(pooled, dim=-1)
            elif isinstance(module, Normalize):
                result = value / (value * value).sum(-1, keepdim=True).sqrt().clamp(min=1e-12)
            elif isinstance(module, Dense):
                result = next(dense)(value)
            elif isinstance(module, LayerNorm):
                result = next(norms)(value)
            else:
                result = next(means)(all_layers)
            features[module.target] = result
        embedding = features[SENTENCE]
        kept = self.truncate_dim
        return embedding if kept in (None, embedding.shape[-1]) else embedding[:, :kept]

    def _pooled(self, mode: str, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        weights = mask.unsqueeze(-1)
        if mode == "cls" and self.includes_prompt:
            return hidden[:, 0]
        if mode == "max":
            return (hidden + (1.0 - weights) * _LOWER_THAN_ALL).max(1).values
        if mode == "cls":
            # The token behind the last that is left out, or the first where none is.
            begins = (1.0 - weights) * _moved_forward(weights)
            return hidden[:, 0] * weights[:, 0] + (_moved_forward(hidden) * begins).sum(1)
        if mode == "lasttoken":
            return (hidden * weights * (1.0 - _moved_forward(weights))).sum(1)
        if mode == "weightedmean":
            weights = weights * self.places(weights)
        total = (hidden * weights).sum(1)
        count = weights.sum(1).clamp(min=1e-9)
        return total / (count.sqrt() if mode == "mean_sqrt_len_tokens" else count)


def _moved_forward(value: torch.Tensor) -> torch.Tensor:
    """Return each token's successor in its place, and 0 behind the last, shape [n, length, d].

    Made longer by one and then cut at its beginning: so a length that is open while exporting stays open, down to one
    token, and no format writes it into a constant.
    """
    return torch.cat((value, value[:, :1] * 0.0), dim=1)[:, 1:]


def build_sentence_pooling(root: Path, head: SentenceHead, length: int) -> SentencePooling:
    """Make the exportable model of a checkpoint's head, for texts of up to a length in tokens.

    Raises:
        UsageError: weights of its modules cannot be loaded.
    """
    return SentencePooling(head, load_layers(root, head), length)
