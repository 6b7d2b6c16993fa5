"""Attention over keys and values that the program keeps, a row for each position of the context.

Rows are written by `llama::update_cache` and, without a softcap, read by `llama::custom_sdpa`, which computes no more
than the rows that are there. Both are ExecuTorch's operators for language models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch

from fastserve_converters.formats.executorch.decoder_layers import Cap, Factor
from fastserve_converters.models.decoder.form import AttentionSettings

HIDDEN = 1e9
"""What is taken from the score of a row that is not to be seen, for each position beyond: nothing is left of it."""


@dataclass(frozen=True)
class TokenSpan:
    """Where new tokens stand.

    Attributes:
        start: position of the first, symbolic while exporting.
        count: how many there are, likewise.
    """

    start: Any
    count: Any


class CachedAttention(Protocol):
    """Attention of one layer over its cache."""

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, span: TokenSpan, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Keep new keys and values, and mix values.

        Args:
            query: of the last tokens: of all new ones, or of fewer; shape [1, tokens, heads, head_dim].
            key: of all new tokens, shape [1, count, key_value_heads, head_dim].
            value: likewise.
            span: of the new tokens.
            mask: is added to scores, shape [tokens, context]; None where a token sees all up to itself.

        Returns:
            Mixed values, shape [tokens, heads * head_dim].
        """


class FusedAttention(torch.nn.Module):
    """By `llama::custom_sdpa`. Caches have the shape [1, context, key_value_heads, head_dim]."""

    def __init__(self, settings: AttentionSettings, context: int) -> None:
        super().__init__()
        self.settings = settings
        shape = (1, context, settings.key_value_heads, settings.head_dim)
        self.register_buffer("keys", torch.zeros(shape), persistent=False)
        self.register_buffer("values", torch.zeros(shape), persistent=False)

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, span: TokenSpan, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """See `CachedAttention`."""
        settings = self.settings
        keys, values = self.get_buffer("keys"), self.get_buffer("values")
        operators = torch.ops.llama
        operators.update_cache(key, keys, span.start)
        operators.update_cache(value, values, span.start)
        start = span.start + span.count - query.shape[1]
        mixed: torch.Tensor = operators.custom_sdpa(query, keys, values, start, mask, 0.0, mask is None, settings.scale)
        return mixed.view(-1, settings.heads * settings.head_dim)


class CappedAttention(torch.nn.Module):
    """By products over the whole context, for scores that are capped, which `custom_sdpa` cannot.

    Caches have the shape [key_value_heads, context, 1, head_dim], with heads in the place of a batch. Keys stand at the
    left of their product: XNNPACK packs what stands at the right anew in each call, which are few queries then.
    """

    def __init__(self, settings: AttentionSettings, context: int) -> None:
        super().__init__()
        assert settings.softcap is not None
        self.settings, self.context = settings, context
        self.cap, self.scale = Cap(settings.softcap), Factor(settings.scale)
        shape = (settings.key_value_heads, context, 1, settings.head_dim)
        self.register_buffer("keys", torch.zeros(shape), persistent=False)
        self.register_buffer("values", torch.zeros(shape), persistent=False)

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, span: TokenSpan, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """See `CachedAttention`; there must be a mask."""
        assert mask is not None
        s = self.settings
        groups = s.heads // s.key_value_heads
        keys, values = self.get_buffer("keys"), self.get_buffer("values")
        for new, kept in ((key, keys), (value, values)):
            by_head = new.permute(2, 1, 0, 3)
            torch.ops.llama.update_cache(by_head, kept, span.start)
        held = (s.key_value_heads, self.context, s.head_dim)
        # Queries that share a head of keys stand in a row: [key_value_heads, groups * tokens, head_dim].
        asked = self.scale(query).view(-1, s.key_value_heads, groups, s.head_dim).permute(1, 2, 0, 3)
        asked = asked.reshape(s.key_value_heads, -1, s.head_dim)
        scores = torch.bmm(keys.view(held), asked.permute(0, 2, 1)).permute(0, 2, 1)
        scores = self.cap(scores).view(s.key_value_heads, groups, -1, self.context) + mask
        shares = torch.softmax(scores, -1).view(s.key_value_heads, -1, self.context)
        mixed = torch.bmm(shares, values.view(held)).view(s.key_value_heads, groups, -1, s.head_dim)
        return mixed.permute(2, 0, 1, 3).reshape(-1, s.heads * s.head_dim)


class Sight(torch.nn.Module):
    """The mask of which rows of the cache tokens see: those up to themselves, the last of them where windows slide."""

    def __init__(self, window: int | None, context: int) -> None:
        super().__init__()
        slots = torch.arange(context, dtype=torch.float32)[None]
        self.register_buffer("slots", slots, persistent=False)
        self.register_buffer("zero", torch.zeros(1), persistent=False)
        self.register_buffer("hidden", torch.tensor([HIDDEN]), persistent=False)
        self.register_buffer("last_seen", None if window is None else torch.tensor([window - 1.0]), persistent=False)

    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        """Return what is added to scores, float32, shape [tokens, context].

        Args:
            positions: float32, shape [tokens, 1].
        """
        distance = positions - self.get_buffer("slots")
        beyond = torch.minimum(distance, self.get_buffer("zero"))
        if self.last_seen is not None:
            beyond = beyond + torch.minimum(self.get_buffer("last_seen") - distance, self.get_buffer("zero"))
        return beyond * self.get_buffer("hidden")


def needs_mask(settings: AttentionSettings, context: int) -> bool:
    """Whether a layer's attention must be told what to see, rather than all up to the token itself."""
    return settings.softcap is not None or (settings.window is not None and settings.window < context)
