"""What sentence-transformers computes behind the Transformer, in its own words: the truth of sentence embeddings.

Written after sentence-transformers 6.2 and compared with it by the tests;
`fastserve_converters.models.sentence_pooling` is another form of the same, which is exported and compared with this one
before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fastserve_converters.checkpoints.sentence_transformers.modules import SENTENCE, TOKENS
from fastserve_converters.checkpoints.sentence_transformers.modules.normalize import Normalize
from fastserve_converters.checkpoints.sentence_transformers.modules.pooling import Pooling
from fastserve_converters.checkpoints.sentence_transformers.modules.weighted_layer_pooling import WeightedLayerPooling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastserve_converters.checkpoints.sentence_transformers import SentenceHead


def sentence_embeddings(
    head: SentenceHead,
    layers: Sequence[torch.nn.Module],
    hidden: torch.Tensor,
    mask: torch.Tensor,
    all_layers: tuple[torch.Tensor, ...] | None = None,
) -> torch.Tensor:
    """Return the embeddings of texts, shape [n, d].

    Args:
        head: what follows the Transformer.
        layers: its modules with weights, as `load_layers` gives them.
        hidden: the last hidden states, shape [n, tokens, width].
        mask: which tokens are pooled, 1 or 0, integers, shape [n, tokens].
        all_layers: the hidden states of every layer, where the head needs them.
    """
    features = {TOKENS: hidden}
    rest = iter(layers)
    for module in head.modules:
        value = features[module.source]
        if isinstance(module, Pooling):
            features[module.target] = torch.cat([_pooled(mode, value, mask) for mode in module.modes], dim=-1)
        elif isinstance(module, Normalize):
            features[module.target] = torch.nn.functional.normalize(value, p=2, dim=-1)
        elif isinstance(module, WeightedLayerPooling):
            features[module.target] = next(rest)(all_layers)
        else:
            features[module.target] = next(rest)(value)
    return features[SENTENCE][..., : head.truncate_dim]


def _pooled(mode: str, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    weights = mask.unsqueeze(-1).to(tokens.dtype)
    count = tokens.shape[1]
    rows = torch.arange(len(tokens), device=tokens.device)
    match mode:
        case "cls":
            return tokens[rows, mask.int().argmax(dim=1)]
        case "lasttoken":
            values, last = mask.int().flip(1).max(dim=1)
            return (tokens * weights)[rows, torch.where(values == 0, 0, count - last - 1)]
        case "max":
            return tokens.masked_fill(weights == 0, float("-inf")).max(dim=1).values
        case "mean" | "mean_sqrt_len_tokens":
            number = weights.sum(dim=1).clamp(min=1e-9)
            return (tokens * weights).sum(dim=1) / (number if mode == "mean" else number.sqrt())
        case "weightedmean":
            # By the position in the text, prompt included.
            places = weights * torch.arange(1, count + 1, dtype=tokens.dtype, device=tokens.device).view(1, -1, 1)
            return (tokens * places).sum(dim=1) / places.sum(dim=1).clamp(min=1e-9)
        case _:
            raise AssertionError(mode)
