"""A decoder as a program that keeps its cache: `forward(input_ids, position)` scores what follows the last token."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from fastserve_converters.formats.executorch.decoder_attention import (
    CachedAttention,
    CappedAttention,
    FusedAttention,
    Sight,
    TokenSpan,
    needs_mask,
)
from fastserve_converters.formats.executorch.decoder_layers import (
    Cap,
    Embedding,
    Factor,
    Product,
    Rotation,
    RowNorm,
    activation_layer,
    parts_by_rows,
    products,
    rotary_table,
)
from fastserve_converters.models.decoder.form import Block, DecoderForm, FeedForward, GatedFeedForward
from fastserve_converters.quantized_weight import QuantizedWeight
from fastserve_runtime.generation.stateful import INPUT_IDS, POSITION

aten = torch.ops.aten


def decoder_program(
    form: DecoderForm, weights: Mapping[str, QuantizedWeight], chunk: int
) -> torch.export.ExportedProgram:
    """Return the program, whose number of tokens is dynamic: from 1 to `chunk`, which is less than the context.

    Args:
        form: the decoder.
        weights: torch module name → quantized weight; layers without stay in float. A tied head multiplies with the
            embedding's.
        chunk: so many tokens at most in one call.

    Raises:
        UsageError: no kernel reads a layer's scheme.
    """
    # Defines the embedding operators, their out variants, and those of attention.
    import executorch.exir.passes._quant_patterns_and_replacements
    import executorch.extension.llm.custom_ops.custom_ops
    import executorch.kernels.quantized  # noqa: F401

    module = CachedDecoder(form, weights).eval()
    example = (torch.zeros((1, 3), dtype=torch.long), torch.zeros(1, dtype=torch.long))
    shapes = {INPUT_IDS: {1: torch.export.Dim("count", min=1, max=chunk)}, POSITION: None}
    with torch.no_grad():
        return torch.export.export(module, example, dynamic_shapes=shapes, strict=False)


class CachedDecoder(torch.nn.Module):
    """A decoder with its cache."""

    def __init__(self, form: DecoderForm, weights: Mapping[str, QuantizedWeight]) -> None:
        """Take a form's parameters, or their quantized weights."""
        super().__init__()
        self.context = form.context
        self.embedding = Embedding(form.embedding.weight, weights.get("embedding"), "embedding", is_head=form.is_tied)
        self.positions = None
        if form.positions is not None:
            self.positions = Embedding(form.positions.weight, weights.get("positions"), "positions")
        self.embedding_factor = None if form.embedding_scale == 1 else Factor(form.embedding_scale)
        self.rotary = torch.nn.ModuleDict()
        self.sights = torch.nn.ModuleDict()
        for settings in form.settings:
            if settings.rotary is not None and str(settings.rotary) not in self.rotary:
                tables = zip(form.rotary(settings.rotary), (1.0, 0.0), strict=True)
                whole = [rotary_table(table, settings.head_dim, beyond) for table, beyond in tables]
                self.rotary[str(settings.rotary)] = torch.nn.ModuleList(Embedding(t, None, "rotary") for t in whole)
            if needs_mask(settings, form.context):
                self.sights[_window_name(settings.window)] = Sight(settings.window, form.context)
        last = len(form.layers) - 1
        self.blocks = torch.nn.ModuleList(
            CachedBlock(block, f"blocks.{i}", weights, form, is_last=i == last) for i, block in enumerate(form.layers)
        )
        self.norm = RowNorm(form.norm)
        head = torch.nn.Linear(form.head.in_features, form.head.out_features, bias=False, device="meta")
        # A copy: what a delegate and a kernel both read would be taken from the delegate.
        head.weight = torch.nn.Parameter(form.head.weight.detach().clone(), requires_grad=False)
        head.bias = form.head.bias
        self.head = Product(head, weights.get("embedding" if form.is_tied else "head"), "head")
        self.cap = None if form.softcap is None else Cap(form.softcap)

    def forward(self, input_ids: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """Return scores of the token behind the last one, float32, shape [1, vocabulary].

        Args:
            input_ids: int64, shape [1, count].
            position: of the first of them, int64, shape [1].
        """
        # These two as what `item` and `arange` come down to, lest the whole program be traced again for it.
        start, count = aten._local_scalar_dense.default(position), input_ids.shape[1]
        torch._check(start >= 0)  # type: ignore[no-untyped-call]
        torch._check(start + count <= self.context)  # type: ignore[no-untyped-call]
        positions = aten.arange.start_step(0, count, 1) + position
        x = self.embedding(input_ids)
        if self.embedding_factor is not None:
            x = self.embedding_factor(x)
        if self.positions is not None:
            x = x + self.positions(positions)
        turns = {
            name: [table(positions).view(-1, 1, table.width) for table in pair.children()]
            for name, pair in self.rotary.items()
        }
        masks = {}
        if self.sights:
            floats = positions.to(torch.float32).view(-1, 1)
            masks = {name: sight(floats) for name, sight in self.sights.items()}
        for block in self.blocks:
            x = block(x, TokenSpan(start, count), turns, masks)
        (scores,) = products(self.norm(x), self.head)
        return scores if self.cap is None else self.cap(scores)


class CachedBlock(torch.nn.Module):
    """One block. The last one goes on with the last token alone once keys and values are kept."""

    def __init__(
        self,
        block: Block,
        name: str,
        weights: Mapping[str, QuantizedWeight],
        form: DecoderForm,
        *,
        is_last: bool,
    ) -> None:
        super().__init__()
        self.is_last = is_last
        attention, settings = block.attention, block.attention.settings
        self.settings = settings
        self.mask_name = _window_name(settings.window) if needs_mask(settings, form.context) else None
        self.attention_norm = RowNorm(block.attention_norm)
        sizes = tuple(n * settings.head_dim for n in (settings.heads, *[settings.key_value_heads] * 2))
        qkv = f"{name}.attention.qkv"
        self.query, self.key, self.value = parts_by_rows(attention.qkv, weights.get(qkv), qkv, sizes)
        self.query_norm, self.key_norm = (
            None if norm is None else RowNorm(norm) for norm in (attention.query_norm, attention.key_norm)
        )
        self.rotation = None
        if settings.rotary is not None:
            self.rotation = Rotation(2 * form.rotary(settings.rotary)[0].shape[1], settings.head_dim)
        kind = FusedAttention if settings.softcap is None else CappedAttention
        self.attend: CachedAttention = kind(settings, form.context)
        self.output = _product(attention.output, weights, f"{name}.attention.output")
        self.attention_post_norm, self.feed_forward_post_norm = (
            None if norm is None else RowNorm(norm)
            for norm in (block.attention_post_norm, block.feed_forward_post_norm)
        )
        self.feed_forward_norm = RowNorm(block.feed_forward_norm)
        self.feed_forward = CachelessFeedForward(block.feed_forward, f"{name}.feed_forward", weights)

    def forward(
        self,
        x: torch.Tensor,
        span: TokenSpan,
        turns: Mapping[str, list[torch.Tensor]],
        masks: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        """Return the stream behind this block.

        Args:
            x: shape [tokens, width].
            span: of the tokens.
            turns: by the name of rotary tables, cosines and sines of the tokens, shape [tokens, 1, head_dim].
            masks: by the window's name, what is added to scores, shape [tokens, context].
        """
        settings = self.settings
        parts = products(self.attention_norm(x), self.query, self.key, self.value)
        query, key, value = (part.view(1, -1, part.shape[1] // settings.head_dim, settings.head_dim) for part in parts)
        query = query if self.query_norm is None else self.query_norm(query)
        key = key if self.key_norm is None else self.key_norm(key)
        if self.rotation is not None:
            turn = turns[str(settings.rotary)]
            query, key = self.rotation(query, *turn), self.rotation(key, *turn)
        mask = None if self.mask_name is None else masks[self.mask_name]
        if self.is_last:
            x, query = x[-1:], query[:, -1:]
            mask = None if mask is None else mask[-1:]
        (mixed,) = products(self.attend(query, key, value, span, mask), self.output)
        x = x + (mixed if self.attention_post_norm is None else self.attention_post_norm(mixed))
        fed = self.feed_forward(self.feed_forward_norm(x))
        result: torch.Tensor = x + (fed if self.feed_forward_post_norm is None else self.feed_forward_post_norm(fed))
        return result


class CachelessFeedForward(torch.nn.Module):
    """The feed-forward layers of a block."""

    def __init__(self, module: torch.nn.Module, name: str, weights: Mapping[str, QuantizedWeight]) -> None:
        super().__init__()
        assert isinstance(module, (GatedFeedForward, FeedForward))
        self.gate = _product(module.gate, weights, f"{name}.gate") if isinstance(module, GatedFeedForward) else None
        self.up = _product(module.up, weights, f"{name}.up")
        self.down = _product(module.down, weights, f"{name}.down")
        self.activation = activation_layer(module.activation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the same shape."""
        if self.gate is None:
            (up,) = products(x, self.up)
            inner = self.activation(up)
        else:
            gate, up = products(x, self.gate, self.up)
            inner = self.activation(gate) * up
        (result,) = products(inner, self.down)
        return result


def _product(layer: torch.nn.Linear, weights: Mapping[str, QuantizedWeight], name: str) -> Product:
    return Product(layer, weights.get(name), name)


def _window_name(window: int | None) -> str:
    return "whole" if window is None else f"window_{window}"
