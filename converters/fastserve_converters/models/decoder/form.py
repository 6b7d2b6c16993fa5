"""The form of a decoder that every exporter takes: plain modules, with attention and its cache left to the format.

A checkpoint's model is read into it by rules (`reading`) and proven equal to the original (`proof`). What differs
between formats is how keys and values are kept, so attention is a parameter of `forward`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

Activation = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class AttentionSettings:
    """What a layer's attention does beside its weights.

    Attributes:
        heads: of queries.
        key_value_heads: of keys and values; `heads` is a multiple of it (grouped-query attention, arXiv 2305.13245).
        head_dim: width of one head.
        scale: by which scores are multiplied.
        softcap: scores become `softcap * tanh(score / softcap)`; None for no such cap (Gemma 2, arXiv 2408.00118).
        window: a token sees so many tokens, itself among them; None for all before it.
        rotary: index of its rotary tables (arXiv 2104.09864); None where positions are added to embeddings.
    """

    heads: int
    key_value_heads: int
    head_dim: int
    scale: float
    softcap: float | None = None
    window: int | None = None
    rotary: int | None = None


class Attend(Protocol):
    """How a format attends: rotates queries and keys, keeps keys and values, and mixes."""

    def __call__(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Return the mixed values, shape [1, tokens, heads * head_dim].

        Args:
            layer: index of the layer.
            query: before rotation, shape [1, tokens, heads, head_dim].
            key: likewise, shape [1, tokens, key_value_heads, head_dim].
            value: as `key`.
        """


class RmsNorm(torch.nn.Module):
    """Root-mean-square normalisation (arXiv 1910.07467); an offset of the weights, as in Gemma, is in them."""

    def __init__(self, weight: torch.Tensor, epsilon: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(weight, requires_grad=False)
        self.epsilon = epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise over the last axis."""
        return self.weight * (x * torch.rsqrt((x * x).mean(-1, keepdim=True) + self.epsilon))


class Attention(torch.nn.Module):
    """Queries, keys and values by one projection, and the projection of what comes back."""

    def __init__(
        self,
        settings: AttentionSettings,
        qkv: torch.nn.Linear,
        output: torch.nn.Linear,
        query_norm: torch.nn.Module | None,
        key_norm: torch.nn.Module | None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.qkv, self.output = qkv, output
        self.query_norm, self.key_norm = query_norm, key_norm

    def forward(self, x: torch.Tensor, layer: int, attend: Attend) -> torch.Tensor:
        """Return what the layer adds to the residual stream, before any norm; shapes [1, tokens, width]."""
        s = self.settings
        joint = self.qkv(x).reshape(*x.shape[:2], s.heads + 2 * s.key_value_heads, s.head_dim)
        query, key, value = joint.split([s.heads, s.key_value_heads, s.key_value_heads], dim=2)
        if self.query_norm is not None:
            query = self.query_norm(query)
        if self.key_norm is not None:
            key = self.key_norm(key)
        mixed: torch.Tensor = self.output(attend(layer, query, key, value))
        return mixed


class GatedFeedForward(torch.nn.Module):
    """`down(activation(gate(x)) * up(x))` (arXiv 2002.05202)."""

    def __init__(
        self, gate: torch.nn.Linear, up: torch.nn.Linear, down: torch.nn.Linear, activation: Activation
    ) -> None:
        super().__init__()
        self.gate, self.up, self.down = gate, up, down
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the same shape."""
        result: torch.Tensor = self.down(self.activation(self.gate(x)) * self.up(x))
        return result


class FeedForward(torch.nn.Module):
    """`down(activation(up(x)))`."""

    def __init__(self, up: torch.nn.Linear, down: torch.nn.Linear, activation: Activation) -> None:
        super().__init__()
        self.up, self.down = up, down
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the same shape."""
        result: torch.Tensor = self.down(self.activation(self.up(x)))
        return result


class Block(torch.nn.Module):
    """Attention and feed-forward layers around a residual stream, normed before and, in Gemma, also after each."""

    def __init__(
        self,
        attention_norm: torch.nn.Module,
        attention: Attention,
        attention_post_norm: torch.nn.Module | None,
        feed_forward_norm: torch.nn.Module,
        feed_forward: torch.nn.Module,
        feed_forward_post_norm: torch.nn.Module | None,
    ) -> None:
        super().__init__()
        self.attention_norm, self.attention = attention_norm, attention
        self.attention_post_norm = attention_post_norm
        self.feed_forward_norm, self.feed_forward = feed_forward_norm, feed_forward
        self.feed_forward_post_norm = feed_forward_post_norm

    def forward(self, x: torch.Tensor, layer: int, attend: Attend) -> torch.Tensor:
        """Return the stream after this block, shape [1, tokens, width]."""
        mixed = self.attention(self.attention_norm(x), layer, attend)
        x = x + (mixed if self.attention_post_norm is None else self.attention_post_norm(mixed))
        fed = self.feed_forward(self.feed_forward_norm(x))
        result: torch.Tensor = x + (fed if self.feed_forward_post_norm is None else self.feed_forward_post_norm(fed))
        return result


class DecoderForm(torch.nn.Module):
    """A decoder of text.

    Attributes:
        context: tokens that it can see at most: the length of its tables of positions.
        rotary_dims: how many dimensions of a head each pair of rotary tables turns.
    """

    def __init__(
        self,
        embedding: torch.nn.Embedding,
        positions: torch.nn.Embedding | None,
        blocks: Sequence[Block],
        norm: torch.nn.Module,
        head: torch.nn.Linear,
        rotary: Sequence[tuple[torch.Tensor, torch.Tensor]],
        *,
        context: int,
        embedding_scale: float = 1.0,
        softcap: float | None = None,
    ) -> None:
        super().__init__()
        self.embedding, self.positions = embedding, positions
        self.blocks = torch.nn.ModuleList(blocks)
        self.norm, self.head = norm, head
        self.context, self.embedding_scale, self.softcap = context, embedding_scale, softcap
        for index, (cosine, sine) in enumerate(rotary):
            self.register_buffer(f"cosine_{index}", cosine, persistent=False)
            self.register_buffer(f"sine_{index}", sine, persistent=False)
        self._layers = tuple(blocks)

    @property
    def settings(self) -> tuple[AttentionSettings, ...]:
        """The attention settings of every layer."""
        return tuple(block.attention.settings for block in self._layers)

    @property
    def layers(self) -> tuple[Block, ...]:
        """Its blocks."""
        return self._layers

    @property
    def is_tied(self) -> bool:
        """Whether the head multiplies with the embedding itself."""
        return self.head.weight is self.embedding.weight

    def rotary(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the cosines and sines of positions, each of shape [context, rotary dimensions / 2]."""
        return self.get_buffer(f"cosine_{index}"), self.get_buffer(f"sine_{index}")

    def hidden(self, tokens: torch.Tensor, positions: torch.Tensor, attend: Attend) -> torch.Tensor:
        """Return the states after the last norm, shape [1, tokens, width].

        Args:
            tokens: ids, shape [1, tokens].
            positions: of each token, shape [tokens].
            attend: how attention is done.
        """
        x = self.embedding(tokens)
        if self.embedding_scale != 1.0:
            x = x * self.embedding_scale
        if self.positions is not None:
            x = x + self.positions(positions)
        for layer, block in enumerate(self.blocks):
            x = block(x, layer, attend)
        result: torch.Tensor = self.norm(x)
        return result

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> dict[str, torch.Tensor]:  # noqa: ARG002
        """Return `logits` behind every token of whole sequences, shape [sequences, tokens, vocabulary].

        Args:
            input_ids: shape [sequences, tokens]; padding stands at the end, where no token before it sees it.
            attention_mask: not looked at, since attention is causal.
        """
        positions = torch.arange(input_ids.shape[1])
        return {"logits": self.logits(self.hidden(input_ids, positions, WholeSequence(self)))}

    def embedded(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return what the first block is given for whole sequences of ids, shape [sequences, tokens, width]."""
        x: torch.Tensor = self.embedding(tokens.long())
        if self.embedding_scale != 1.0:
            x = x * self.embedding_scale
        return x if self.positions is None else x + self.positions(torch.arange(tokens.shape[1]))

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return scores of the next token for states of shape [..., width]."""
        scores: torch.Tensor = self.head(hidden)
        return scores if self.softcap is None else torch.tanh(scores / self.softcap) * self.softcap


def rotated(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Turn the first dimensions of heads by their positions; the halves of the turned part are the pairs.

    Args:
        x: shape [1, tokens, heads, head_dim].
        cosine: of the tokens' positions, shape [tokens, rotary dimensions / 2].
        sine: likewise.
    """
    half = cosine.shape[-1]
    cosine, sine = cosine[None, :, None], sine[None, :, None]
    first, second = x[..., :half], x[..., half : 2 * half]
    turned = [first * cosine - second * sine, second * cosine + first * sine]
    if 2 * half < x.shape[-1]:
        turned.append(x[..., 2 * half :])
    return torch.cat(turned, -1)


class WholeSequence:
    """Attention over a sequence from its first token, without a cache: the form's own truth."""

    def __init__(self, form: DecoderForm) -> None:
        self._form = form

    def __call__(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """See `Attend`."""
        settings = self._form.settings[layer]
        count = query.shape[1]
        if settings.rotary is not None:
            cosine, sine = (table[:count] for table in self._form.rotary(settings.rotary))
            query, key = rotated(query, cosine, sine), rotated(key, cosine, sine)
        groups = settings.heads // settings.key_value_heads
        key, value = key.repeat_interleave(groups, dim=2), value.repeat_interleave(groups, dim=2)
        scores = torch.einsum("bqhd,bkhd->bhqk", query, key) * settings.scale
        if settings.softcap is not None:
            scores = torch.tanh(scores / settings.softcap) * settings.softcap
        distance = torch.arange(count)[:, None] - torch.arange(count)
        hidden = distance < 0
        if settings.window is not None:
            hidden = hidden | (distance >= settings.window)
        weights = torch.softmax(scores.masked_fill(hidden, -torch.inf), -1)
        return torch.einsum("bhqk,bkhd->bqhd", weights, value).flatten(2)


def whole_logits(form: DecoderForm, tokens: torch.Tensor) -> torch.Tensor:
    """Return the scores behind every token of one sequence, shape [tokens, vocabulary]; `tokens` are [1, tokens]."""
    logits: torch.Tensor = form(tokens)["logits"][0]
    return logits
