"""Attention of new tokens to themselves and to the cached ones, as TFLite operators.

The cached keys and values are a tensor, the new ones another, and both may have any number of rows. Joining them would
copy the cache, and cutting the joint weights apart again would need sizes that no graph of open shapes knows; so the
softmax is taken over the two in parts: its powers, their sums, and one division at the end.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastserve_converters.formats.tflite.decoder_layers import LayerWriter
from fastserve_converters.formats.tflite.writing import OPEN, Value
from fastserve_converters.models.decoder.form import Attention, AttentionSettings, DecoderForm

_HIDING = 1e6
"""A score falls by this for each position that it is out of sight, which no score outweighs."""


class AttentionWriter:
    """Adds attention to a graph. What depends on positions alone is made once for all layers that need the same."""

    def __init__(self, layers: LayerWriter, form: DecoderForm, positions: Value, cached_positions: Value) -> None:
        """Take what all layers share.

        Args:
            layers: adds norms and linear layers.
            form: the decoder, for its rotary tables.
            positions: of the new tokens, int32, shape [tokens].
            cached_positions: of what the cache's slots hold, int32, shape [slots].
        """
        self._layers, self._form, self._ops = layers, form, layers.ops
        self._positions, self._cached_positions = positions, cached_positions
        self._turns: dict[AttentionSettings, tuple[Value, Value]] = {}
        self._masks: dict[tuple[int, int | None], tuple[Value, Value]] = {}

    def mixed(
        self, attention: Attention, x: Value, cached: tuple[Value, Value], name: str
    ) -> tuple[Value, Value, Value]:
        """Return mixed values, shape [tokens, heads * head_dim], before their projection, and the new keys and values.

        Args:
            attention: the layer's.
            x: the normed stream, shape [tokens, width].
            cached: earlier keys and values, each of shape [key_value_heads, slots, head_dim]; so are the new ones.
            name: the layer's.
        """
        ops, s = self._ops, attention.settings
        query, key, value = self._projected(attention, x, name)
        scores = []
        for keys, mask in zip((cached[0], key), self._mask(s.heads // s.key_value_heads, s.window), strict=True):
            raw = ops.product(query, keys, transposed=True)
            scores.append(ops.add(raw if s.softcap is None else self._layers.capped(raw, s.softcap), mask))
        largest = ops.maximum(*(ops.reduce("REDUCE_MAX", part) for part in scores))
        powers = [ops.unary("EXP", ops.subtract(part, largest), "ExpOptions") for part in scores]
        total = ops.add(*(ops.reduce("SUM", part) for part in powers))
        sums = ops.add(ops.product(powers[0], cached[1]), ops.product(powers[1], value))
        heads = ops.reshape(ops.divide(sums, total), [s.heads, OPEN, s.head_dim])
        joint = ops.reshape(ops.transpose(heads, [1, 0, 2]), [OPEN, s.heads * s.head_dim])
        return joint, key, value

    def _projected(self, attention: Attention, x: Value, name: str) -> tuple[Value, Value, Value]:
        """Return turned and scaled queries, shape [key_value_heads, group * tokens, head_dim], turned keys, and values.

        The rows of queries that share keys and values stand below each other, head by head.
        """
        ops, s, kv = self._ops, attention.settings, attention.settings.key_value_heads
        joint = self._layers.linear(attention.qkv, x, f"{name}.qkv")
        joint = ops.reshape(joint, [OPEN, s.heads + 2 * kv, s.head_dim])
        query_key = ops.slice(joint, 1, 0, s.heads + kv)
        value = ops.transpose(ops.slice(joint, 1, s.heads + kv, kv), [1, 0, 2])
        if attention.query_norm is not None or attention.key_norm is not None:
            query, key = ops.slice(query_key, 1, 0, s.heads), ops.slice(query_key, 1, s.heads, kv)
            if attention.query_norm is not None:
                query = self._layers.norm(attention.query_norm, query, f"{name}.query_norm")
            if attention.key_norm is not None:
                key = self._layers.norm(attention.key_norm, key, f"{name}.key_norm")
            query_key = ops.concatenate([query, key], 1)
        turned = ops.transpose(self._turned(query_key, s), [1, 0, 2])
        query = ops.reshape(ops.slice(turned, 0, 0, s.heads), [kv, OPEN, s.head_dim])
        return query, ops.slice(turned, 0, s.heads, kv), value

    def _turned(self, x: Value, settings: AttentionSettings) -> Value:
        """Turn queries and keys by their positions, and scale the queries; shape [tokens, heads, head_dim]."""
        ops = self._ops
        key = replace(settings, softcap=None, window=None)
        if key not in self._turns:
            self._turns[key] = self._turn(key)
        cosine, sine = self._turns[key]
        if settings.rotary is None:
            return ops.multiply(x, cosine)
        half = self._form.rotary(settings.rotary)[0].shape[1]
        parts = [ops.slice(x, 2, half, half), ops.slice(x, 2, 0, half)]
        if 2 * half < settings.head_dim:
            parts.append(ops.slice(x, 2, 2 * half, settings.head_dim - 2 * half))
        return ops.add(ops.multiply(x, cosine), ops.multiply(ops.concatenate(parts, 2), sine))

    def _turn(self, settings: AttentionSettings) -> tuple[Value, Value]:
        """Return cosines and signed sines by token, head and dimension; those of queries have the scores' scale.

        Without rotary tables, both are that scale.
        """
        ops, heads, kv = self._ops, settings.heads, settings.key_value_heads
        scales = np.ones((1, heads + kv, 1), np.float32)
        scales[:, :heads] = settings.scale
        by_head = ops.graph.constant(f"scales of {heads} and {kv} heads, {settings.scale!r}", scales)
        if settings.rotary is None:
            return by_head, by_head
        cosine, sine = (table.numpy() for table in self._form.rotary(settings.rotary))
        rest = np.zeros((len(cosine), settings.head_dim - 2 * cosine.shape[1]), np.float32)
        tables = {
            "cosine": np.concatenate([cosine, cosine, rest + 1], 1),
            "sine": np.concatenate([-sine, sine, rest], 1),
        }
        found = []
        for name, table in tables.items():
            whole = ops.graph.constant(f"{name} {settings.rotary}", table)
            rows = ops.reshape(ops.gather(whole, self._positions), [OPEN, 1, settings.head_dim])
            found.append(ops.multiply(rows, by_head))
        return found[0], found[1]

    def _mask(self, groups: int, window: int | None) -> tuple[Value, Value]:
        """Return what is added to the scores of cached and of new tokens, shape [1, groups * tokens, those]."""
        if (groups, window) not in self._masks:
            ops, given = self._ops, (self._cached_positions, self._positions)
            cached, own = (ops.graph.operator("CAST", [p], p.shape) for p in given)
            rows = ops.reshape(ops.concatenate([own] * groups, 0) if groups > 1 else own, [1, OPEN, 1])
            self._masks[groups, window] = self._hidden(rows, cached, window), self._hidden(rows, own, window)
        return self._masks[groups, window]

    def _hidden(self, rows: Value, positions: Value, window: int | None) -> Value:
        """Return 0 where a row sees a position, and far less than any score elsewhere."""
        ops = self._ops
        ahead = ops.subtract(rows, ops.reshape(positions, [1, 1, OPEN]))
        minimum = ahead if window is None else ops.minimum(ahead, ops.subtract(ops.scalar(window - 1.0), ahead))
        return ops.multiply(ops.minimum(minimum, ops.scalar(0.0)), ops.scalar(_HIDING))
