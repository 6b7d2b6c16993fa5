"""A decoder as a TFLite graph, written operator by operator from the common form.

One graph does both prefill and decoding. The number of new tokens is open, and so is the number of slots for earlier
ones: their keys and values are inputs, and those of the new tokens are outputs, for the application to write into the
next call's inputs. So XNNPACK packs each weight once, and nothing is computed for an empty part of the cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fastserve_converters.formats.tflite.decoder_attention import AttentionWriter
from fastserve_converters.formats.tflite.decoder_layers import LayerWriter
from fastserve_converters.formats.tflite.operators import Operators
from fastserve_converters.formats.tflite.writing import OPEN, ModelWriter, Value
from fastserve_converters.models.decoder.form import Block, DecoderForm
from fastserve_runtime.bundle import axes
from fastserve_runtime.bundle.axes import BATCH, CACHE_AXES, CHANNELS, HEADS, TOKENS, VOCABULARY
from fastserve_runtime.bundle.tensor_specs import Signature, SymbolicDim, TensorSpec
from fastserve_runtime.generation.sliced_cache import (
    CACHED_POSITIONS,
    INPUT_IDS,
    LOGITS,
    POSITIONS,
    new_name,
    past_name,
)

if TYPE_CHECKING:
    from fastserve_converters.quantized_weight import QuantizedWeight

GRAPH = "decoder"
KINDS = ("key", "value")


def decoder_model(form: DecoderForm, weights: Mapping[str, QuantizedWeight] | None = None) -> ModelWriter:
    """Return the decoder as a file to be written.

    Args:
        form: the decoder.
        weights: torch module name → quantized weight, int8 or int4; layers without stay in fp32. A tied head multiplies
            with the embedding's.
    """
    writer = ModelWriter()
    _Writer(form, weights or {}, writer).write()
    return writer


def signature(form: DecoderForm) -> Signature:
    """Return the inputs and outputs of the decoder's graph."""
    tokens, slots = SymbolicDim("tokens", 1, form.context), SymbolicDim("slots", 1, form.context)
    names = [(layer, kind) for layer in range(len(form.layers)) for kind in KINDS]
    heads = {layer: (s.key_value_heads, s.head_dim) for layer, s in enumerate(form.settings)}
    rows = {
        size: [(layer, kind, (heads[layer][0], size, heads[layer][1])) for layer, kind in names]
        for size in (tokens, slots)
    }
    return Signature(
        (
            *(TensorSpec(past_name(layer, kind), "float32", dims, CACHE_AXES[1:]) for layer, kind, dims in rows[slots]),
            TensorSpec(INPUT_IDS, "int32", (tokens,), (TOKENS,)),
            TensorSpec(POSITIONS, "int32", (tokens,), (TOKENS,)),
            TensorSpec(CACHED_POSITIONS, "int32", (slots,), (axes.POSITIONS,)),
        ),
        (
            TensorSpec(LOGITS, "float32", (1, form.head.out_features), (BATCH, VOCABULARY)),
            *(
                TensorSpec(new_name(layer, kind), "float32", dims, (HEADS, TOKENS, CHANNELS))
                for layer, kind, dims in rows[tokens]
            ),
        ),
    )


class _Writer:
    def __init__(self, form: DecoderForm, weights: Mapping[str, QuantizedWeight], writer: ModelWriter) -> None:
        self.form = form
        self.graph = writer.graph(GRAPH)
        self.ops = Operators(self.graph)
        self.layers = LayerWriter(self.ops, weights)
        self.inputs = {
            spec.name: self.graph.input(
                spec.name, [d if isinstance(d, int) else OPEN for d in spec.dims], spec.dtype.upper()
            )
            for spec in signature(form).inputs
        }
        positions, cached = self.inputs[POSITIONS], self.inputs[CACHED_POSITIONS]
        self.attention = AttentionWriter(self.layers, form, positions, cached)

    def write(self) -> None:
        form, layers = self.form, self.layers
        new: dict[str, Value] = {}
        x = self._embedded()
        for layer, block in enumerate(form.layers):
            name = f"blocks.{layer}"
            cached = (self.inputs[past_name(layer, "key")], self.inputs[past_name(layer, "value")])
            normed = layers.norm(block.attention_norm, x, f"{name}.attention_norm")
            mixed, *rows = self.attention.mixed(block.attention, normed, cached, f"{name}.attention")
            new |= {new_name(layer, kind): value for kind, value in zip(KINDS, rows, strict=True)}
            if layer == len(form.layers) - 1:
                # Only the last token is scored, so what follows is computed for it alone.
                mixed, x = self._last_row(mixed), self._last_row(x)
            x = self._block(block, name, x, mixed)
        normed = layers.norm(form.norm, x, "norm")
        logits = layers.linear(form.head, normed, "head", weight_name="embedding" if form.is_tied else None)
        self.graph.output(LOGITS, logits if form.softcap is None else layers.capped(logits, form.softcap))
        for name, value in new.items():
            self.graph.output(name, value)

    def _embedded(self) -> Value:
        form, ops = self.form, self.ops
        x = ops.look_up(self.layers.matrix(form.embedding.weight, "embedding"), self.inputs[INPUT_IDS])
        if form.embedding_scale != 1.0:
            x = ops.multiply(x, ops.scalar(form.embedding_scale))
        if form.positions is not None:
            table = self.layers.constant(form.positions.weight, "positions.weight")
            x = ops.add(x, ops.gather(table, self.inputs[POSITIONS]))
        return x

    def _block(self, block: Block, name: str, x: Value, mixed: Value) -> Value:
        """Return the stream behind a block, from that before it and what its attention mixed."""
        ops, layers = self.ops, self.layers
        mixed = layers.linear(block.attention.output, mixed, f"{name}.attention.output")
        if block.attention_post_norm is not None:
            mixed = layers.norm(block.attention_post_norm, mixed, f"{name}.attention_post_norm")
        x = ops.add(x, mixed)
        normed = layers.norm(block.feed_forward_norm, x, f"{name}.feed_forward_norm")
        fed = layers.feed_forward(block.feed_forward, normed, f"{name}.feed_forward")
        if block.feed_forward_post_norm is not None:
            fed = layers.norm(block.feed_forward_post_norm, fed, f"{name}.feed_forward_post_norm")
        return ops.add(x, fed)

    def _last_row(self, x: Value) -> Value:
        parts = {"last row": [-1, 0], "its end": [0, 0], "one by one": [1, 1]}
        begin, end, step = (self.graph.constant(name, np.array(part, np.int32)) for name, part in parts.items())
        settings = {"beginMask": 0b10, "endMask": 0b11}
        shape = (1, x.shape[1])
        return self.graph.operator(
            "STRIDED_SLICE", [x, begin, end, step], shape, "StridedSliceOptions", settings=settings
        )
