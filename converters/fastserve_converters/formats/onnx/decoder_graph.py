"""A decoder as an ONNX graph for ONNX Runtime, written operator by operator from the common form.

One graph does both prefill and decoding: the number of new tokens is open. Keys and values of earlier tokens are inputs
of the whole context's size, and outputs of the same shape; an application gives the same buffer for both, and
GroupQueryAttention writes the new rows into it. Names are those of `onnxruntime-genai`, which runs the file too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fastserve_converters.formats.onnx.fusion import MICROSOFT
from fastserve_converters.formats.onnx.grouped import grouped_product, grouped_rows
from fastserve_converters.formats.onnx.head_layout import head_layout
from fastserve_converters.formats.onnx.quantized_weights import Initializers
from fastserve_converters.models.decoder.form import (
    Activation,
    Block,
    DecoderForm,
    FeedForward,
    GatedFeedForward,
    RmsNorm,
)
from fastserve_converters.models.decoder.reading import gelu_of_tanh
from fastserve_runtime.bundle.axes import BATCH, CACHE_AXES, POSITIONS, TOKENS, VOCABULARY
from fastserve_runtime.bundle.tensor_specs import Signature, SymbolicDim, TensorSpec
from fastserve_runtime.generation.shared_cache import ATTENTION_MASK, INPUT_IDS, LOGITS, PAST, PRESENT

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

    from fastserve_converters.quantized_weight import QuantizedWeight

_OPSET = 21
_NEW, _TOTAL, _PAST = "sequence_length", "total_sequence_length", "past_sequence_length"
_IR_VERSION = 10


def past_name(layer: int, kind: str) -> str:
    """Return the name of the input with a layer's earlier keys or values (`key`, `value`)."""
    return f"{PAST}{layer}.{kind}"


def present_name(layer: int, kind: str) -> str:
    """Return the name of the output with a layer's keys or values."""
    return f"{PRESENT}{layer}.{kind}"


def write_graph(form: DecoderForm, weights: Mapping[str, QuantizedWeight] | None = None) -> ir.Model:
    """Return the decoder as a model.

    Args:
        form: the decoder.
        weights: torch module name → quantized weight in groups of columns, multiplied by MatMulNBits with activations
            rounded to 8 bits group by group; layers without stay in fp32. A tied head multiplies with the embedding's.
    """
    return _Writer(form, weights or {}).model()


def signature(form: DecoderForm) -> Signature:
    """Return the graph's inputs and outputs; how many tokens are new or earlier is open up to the form's context."""
    new, total, past = (SymbolicDim(name, 1, form.context) for name in (_NEW, _TOTAL, _PAST))
    caches = [
        (layer, kind, (1, s.key_value_heads, past, head_layout(form, layer).padded_size))
        for layer, s in enumerate(form.settings)
        for kind in ("key", "value")
    ]
    inputs = (
        TensorSpec(INPUT_IDS, "int64", (1, new), (BATCH, TOKENS)),
        TensorSpec(ATTENTION_MASK, "int64", (1, total), (BATCH, POSITIONS)),
        *(TensorSpec(past_name(layer, kind), "float32", dims, CACHE_AXES) for layer, kind, dims in caches),
    )
    outputs = (
        TensorSpec(LOGITS, "float32", (1, 1, form.head.out_features), (BATCH, TOKENS, VOCABULARY)),
        *(TensorSpec(present_name(layer, kind), "float32", dims, CACHE_AXES) for layer, kind, dims in caches),
    )
    return Signature(inputs, outputs)


class _Writer:
    def __init__(self, form: DecoderForm, weights: Mapping[str, QuantizedWeight]) -> None:
        import onnx_ir as ir
        from onnx_ir import tape as tapes

        self.form = form
        self.weights = weights
        self.tape: Any = tapes.Tape()
        long, single = ir.TensorType(ir.DataType.INT64), ir.TensorType(ir.DataType.FLOAT)
        self.ids = ir.Input(INPUT_IDS, ir.Shape([1, _NEW]), long)
        self.mask = ir.Input(ATTENTION_MASK, ir.Shape([1, _TOTAL]), long)
        self.past: dict[str, ir.Value] = {}
        for layer, settings in enumerate(form.settings):
            shape = ir.Shape([1, settings.key_value_heads, _PAST, head_layout(form, layer).padded_size])
            for kind in ("key", "value"):
                self.past[past_name(layer, kind)] = ir.Input(past_name(layer, kind), shape, single)
        self.present: list[ir.Value] = []
        self.graph = ir.Graph(
            [self.ids, self.mask, *self.past.values()],
            [],
            nodes=[],
            name="decoder",
            opset_imports={"": _OPSET, MICROSOFT: 1},
        )
        self.constants = Initializers(self.graph)

    def model(self) -> ir.Model:
        import onnx_ir as ir

        form = self.form
        self._count_tokens()
        x = self._embedded()
        # Each sum is joined with the norm that follows it: the next layer's, or the last.
        norms = [(block.attention_norm, f"blocks.{i}.attention_norm") for i, block in enumerate(form.layers)]
        normed = self._norm(*norms[0], x)
        for layer, (block, following) in enumerate(zip(form.layers, [*norms[1:], (form.norm, "norm")], strict=True)):
            x, normed = self._block(block, layer, x, normed, following)
        logits = self._logits(normed)
        logits.name = LOGITS
        logits.shape = ir.Shape([1, 1, form.head.out_features])
        logits.type = ir.TensorType(ir.DataType.FLOAT)
        self.graph.extend(self.tape.nodes)
        self.graph.outputs.extend([logits, *self.present])
        return ir.Model(self.graph, ir_version=_IR_VERSION)

    def _count_tokens(self) -> None:
        """The cache's length with the new tokens, as GroupQueryAttention wants it: less one, and as it is."""
        import onnx_ir as ir

        to_int = {"to": ir.DataType.INT32}
        second = self.constants.add("second", np.array(1, np.int64))
        total = self.tape.op("Gather", [self.tape.op("Shape", [self.mask]), second])
        self.total = self.tape.op("Cast", [total], to_int)
        self.last = self.tape.op("Sub", [self.total, self.constants.add("one", np.array([1], np.int32))])
        if self.form.positions is None:
            return
        # A slice of the table: ONNX Runtime makes one of Range and Gather, and fails then.
        axis = self.constants.add("first_axis", np.array([0], np.int64))
        count = self.tape.op("Shape", [self.ids], {"start": 1, "end": 2})
        end = self.tape.op("Shape", [self.mask], {"start": 1, "end": 2})
        table = self._weight(self.form.positions.weight, "positions.weight")
        self.positions = self.tape.op("Slice", [table, self.tape.op("Sub", [end, count]), end, axis])

    def _embedded(self) -> ir.Value:
        form = self.form
        x: ir.Value
        if "embedding" in self.weights:
            x = grouped_rows(self.tape, self.constants, "embedding", self.ids, self.weights["embedding"])
        else:
            x = self.tape.op("Gather", [self._weight(form.embedding.weight, "embedding.weight"), self.ids])
        if form.embedding_scale != 1.0:
            scale = self.constants.add("embedding_scale", np.array(form.embedding_scale, np.float32))
            x = self.tape.op("Mul", [x, scale])
        if form.positions is not None:
            x = self.tape.op("Add", [x, self.positions])
        return x

    def _block(
        self,
        block: Block,
        layer: int,
        x: ir.Value,
        normed: ir.Value,
        following: tuple[torch.nn.Module, str],
    ) -> tuple[ir.Value, ir.Value]:
        """Return the stream behind a block, and the same normed for what follows."""
        name = f"blocks.{layer}"
        mixed = self._attention(block, layer, normed)
        if block.attention_post_norm is not None:
            mixed = self._norm(block.attention_post_norm, f"{name}.attention_post_norm", mixed)
        x, normed = self._sum_and_norm(block.feed_forward_norm, f"{name}.feed_forward_norm", x, mixed)
        fed = self._feed_forward(block.feed_forward, normed, f"{name}.feed_forward")
        if block.feed_forward_post_norm is not None:
            fed = self._norm(block.feed_forward_post_norm, f"{name}.feed_forward_post_norm", fed)
        return self._sum_and_norm(*following, x, fed)

    def _attention(self, block: Block, layer: int, x: ir.Value) -> ir.Value:
        attention, settings = block.attention, block.attention.settings
        layout = head_layout(self.form, layer)
        name = f"blocks.{layer}.attention"
        qkv = self._linear(attention.qkv, x, f"{name}.qkv")
        operands: list[ir.Value | None] = [qkv, None, None]
        if attention.query_norm is not None or attention.key_norm is not None or layout.is_padded:
            widths = [n * settings.head_dim for n in (settings.heads, *[settings.key_value_heads] * 2)]
            sizes = self.constants.add("qkv_widths", np.array(widths, np.int64))
            query, key, value = self.tape.op_multi_out("Split", [qkv, sizes], {"axis": 2}, num_outputs=3)
            query = self._head_norm(attention.query_norm, query, settings.head_dim, f"{name}.query_norm")
            key = self._head_norm(attention.key_norm, key, settings.head_dim, f"{name}.key_norm")
            operands = [query, key, value]
            if layout.is_padded:
                operands = [self._by_head(part, layout.selection()) for part in (query, key, value)]
        tables: list[ir.Value | None] = [None, None]
        if settings.rotary is not None:
            names = (f"cosine_{settings.rotary}", f"sine_{settings.rotary}")
            given = zip(names, self.form.rotary(settings.rotary), (1.0, 0.0), strict=True)
            tables = [self.constants.add(n, layout.table(table.numpy(), beyond)) for n, table, beyond in given]
        attributes: dict[str, Any] = {
            "num_heads": settings.heads,
            "kv_num_heads": settings.key_value_heads,
            "scale": settings.scale,
            "do_rotary": int(settings.rotary is not None),
        }
        if settings.softcap is not None:
            attributes["softcap"] = settings.softcap
        if settings.window is not None:
            attributes["local_window_size"] = settings.window
        past = [self.past[past_name(layer, kind)] for kind in ("key", "value")]
        mixed, *present = self.tape.op_multi_out(
            "GroupQueryAttention",
            [*operands, *past, self.last, self.total, *tables],
            attributes,
            num_outputs=3,
            domain=MICROSOFT,
            name=name,
        )
        for kind, output, taken in zip(("key", "value"), present, past, strict=True):
            output.name, output.type, output.shape = present_name(layer, kind), taken.type, taken.shape
            self.present.append(output)
        if layout.is_padded:
            mixed = self._by_head(mixed, layout.selection().T)
        return self._linear(attention.output, mixed, f"{name}.output")

    def _by_head(self, x: ir.Value, matrix: NDArray[np.float32]) -> ir.Value:
        """Multiply each head with a matrix, shape [dimensions before, dimensions after]."""
        before, after = matrix.shape
        heads = self.constants.add(f"heads_of_{before}", np.array([1, 0, -1, before], np.int64))
        joined = self.constants.add("heads_joined", np.array([1, 0, -1], np.int64))
        moved = self.constants.add(f"head_{before}_to_{after}", matrix)
        product = self.tape.op("MatMul", [self.tape.op("Reshape", [x, heads]), moved])
        return self.tape.op("Reshape", [product, joined])  # type: ignore[no-any-return]

    def _head_norm(self, norm: torch.nn.Module | None, x: ir.Value, width: int, name: str) -> ir.Value:
        """Norm each head by itself."""
        if norm is None:
            return x
        heads = self.constants.add("by_head", np.array([1, 0, -1, width], np.int64))
        joined = self.constants.add("heads_joined", np.array([1, 0, -1], np.int64))
        normed = self._norm(norm, name, self.tape.op("Reshape", [x, heads]))
        return self.tape.op("Reshape", [normed, joined])  # type: ignore[no-any-return]

    def _feed_forward(self, module: torch.nn.Module, x: ir.Value, name: str) -> ir.Value:
        if isinstance(module, GatedFeedForward):
            gate = self._activated(module.activation, self._linear(module.gate, x, f"{name}.gate"))
            product = self.tape.op("Mul", [gate, self._linear(module.up, x, f"{name}.up")])
            return self._linear(module.down, product, f"{name}.down")
        assert isinstance(module, FeedForward)
        inner = self._activated(module.activation, self._linear(module.up, x, f"{name}.up"))
        return self._linear(module.down, inner, f"{name}.down")

    def _activated(self, activation: Activation, x: ir.Value) -> ir.Value:
        operators: Mapping[Any, tuple[str, dict[str, float], str]] = {
            torch.nn.functional.silu: ("QuickGelu", {"alpha": 1.0}, MICROSOFT),  # x * sigmoid(x)
            gelu_of_tanh: ("FastGelu", {}, MICROSOFT),
            torch.nn.functional.gelu: ("Gelu", {}, MICROSOFT),
            torch.nn.functional.relu: ("Relu", {}, ""),
        }
        kind, attributes, domain = operators[activation]
        return self.tape.op(kind, [x], attributes, domain=domain)  # type: ignore[no-any-return]

    def _norm(self, norm: torch.nn.Module, name: str, x: ir.Value) -> ir.Value:
        kind, weights, attributes = self._norm_parts(norm, name)
        simplified = kind == "RmsNorm"
        operator = "SimplifiedLayerNormalization" if simplified else "LayerNormalization"
        # ONNX Runtime has the first in the standard's domain, where no opset of the standard has it.
        return self.tape.op(operator, [x, *weights], {**attributes, "axis": -1}, name=name)  # type: ignore[no-any-return]

    def _sum_and_norm(
        self, norm: torch.nn.Module, name: str, x: ir.Value, addend: ir.Value
    ) -> tuple[ir.Value, ir.Value]:
        kind, weights, attributes = self._norm_parts(norm, name)
        operator = "SkipSimplifiedLayerNormalization" if kind == "RmsNorm" else "SkipLayerNormalization"
        normed, _, _, total = self.tape.op_multi_out(
            operator, [x, addend, *weights], attributes, num_outputs=4, domain=MICROSOFT, name=name
        )
        return total, normed

    def _norm_parts(self, norm: torch.nn.Module, name: str) -> tuple[str, list[ir.Value], dict[str, Any]]:
        if isinstance(norm, RmsNorm):
            return "RmsNorm", [self._weight(norm.weight, f"{name}.weight")], {"epsilon": norm.epsilon}
        assert isinstance(norm, torch.nn.LayerNorm)
        parts = [self._weight(p, f"{name}.{n}") for n, p in (("weight", norm.weight), ("bias", norm.bias))]
        return "LayerNorm", parts, {"epsilon": norm.eps}

    def _linear(self, layer: torch.nn.Linear, x: ir.Value, name: str) -> ir.Value:
        bias = None if layer.bias is None else self._weight(layer.bias, f"{name}.bias")
        if name in self.weights:
            return grouped_product(self.tape, self.constants, name, x, self.weights[name], bias)
        product: ir.Value = self.tape.op("MatMul", [x, self._transposed(layer.weight, f"{name}.weight")], name=name)
        return product if bias is None else self.tape.op("Add", [product, bias], name=f"{name}/bias")  # type: ignore[no-any-return]

    def _logits(self, hidden: ir.Value) -> ir.Value:
        """Score the last token alone: in a prefill of many, the head would cost as much as a fifth of the layers."""
        form = self.form
        minus_one = self.constants.add("last_row", np.array([-1], np.int64))
        row = self.tape.op("Gather", [hidden, minus_one], {"axis": 1})
        logits: ir.Value
        if form.is_tied and "embedding" in self.weights:
            quantized = self.weights["embedding"]
            logits = grouped_product(self.tape, self.constants, "embedding", row, quantized, None, node_name="head")
        elif form.is_tied:
            # Gemm reads the table as it is; MatMul would need it the other way round, a second copy.
            width = form.head.in_features
            flat = self.tape.op("Reshape", [row, self.constants.add("one_row", np.array([1, width], np.int64))])
            table = self._weight(form.embedding.weight, "embedding.weight")
            scores = self.tape.op("Gemm", [flat, table], {"transB": 1}, name="head")
            shape = self.constants.add("logits_shape", np.array([1, 1, -1], np.int64))
            logits = self.tape.op("Reshape", [scores, shape])
        else:
            logits = self._linear(form.head, row, "head")
        if form.softcap is not None:
            cap = self.constants.add("softcap", np.array(form.softcap, np.float32))
            logits = self.tape.op("Mul", [self.tape.op("Tanh", [self.tape.op("Div", [logits, cap])]), cap])
        return logits

    def _weight(self, parameter: torch.Tensor, name: str) -> ir.Value:
        return self.constants.add(name, parameter.detach().numpy())

    def _transposed(self, parameter: torch.Tensor, name: str) -> ir.Value:
        return self.constants.add(name, parameter.detach().numpy().T)
