"""Transformer fusions for ONNX Runtime: attention and GELU as one operator each, of the com.microsoft domain.

ONNX Runtime's own tool (`onnxruntime.transformers`) looks for the patterns of PyTorch's older exporter and finds no
attention in today's graphs, so the patterns are written here, as rules of onnxscript's rewriter. What a rule does not
match stays as it is and runs unfused.

Residual sums become `Sum`, which ONNX Runtime does not turn into `SkipLayerNormalization`: that operator's CPU kernel
takes seven times as long as an addition and a `LayerNormalization`, which is vectorised.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx_ir as ir

MICROSOFT = "com.microsoft"
_INT32 = 6
"""`TensorProto.INT32`."""


def fuse(model: ir.Model) -> Mapping[str, int]:
    """Fuse what matches, in place, and return how often each rule did."""
    from onnx_ir.passes import common

    rules = {"attention": _attention_rule(), "gelu": _tanh_gelu_rule()}
    counts = {name: rule.apply_to_model(model) for name, rule in rules.items()}
    counts["residual"] = _respell_residuals(model)
    # Every attention brought a mask of its own.
    common.CommonSubexpressionEliminationPass()(model)
    common.RemoveUnusedNodesPass()(model)
    return counts


def _attention_rule() -> Any:
    """Softmax(Q·Kᵀ·scale + mask)·V by heads → MultiHeadAttention."""
    from onnxscript.rewriter import pattern

    def target(
        op: Any,
        query: Any,
        key: Any,
        value: Any,
        mask: Any,
        scale: Any,
        heads: Any,
        key_heads: Any,
        value_heads: Any,
        flat: Any,
    ) -> Any:
        q = op.Transpose(op.Reshape(query, heads), perm=[0, 2, 1, 3])
        k = op.Transpose(op.Reshape(key, key_heads), perm=[0, 2, 3, 1])
        v = op.Transpose(op.Reshape(value, value_heads), perm=[0, 2, 1, 3])
        scores = op.Add(op.Mul(op.MatMul(q, k), scale), mask)
        context = op.MatMul(op.Softmax(scores, axis=-1), v)
        return op.Reshape(op.Transpose(context, perm=[0, 2, 1, 3]), flat)

    def is_known(_context: Any, mask: ir.Value, scale: ir.Value, heads: ir.Value, **_: Any) -> bool:
        shape = _constant(heads)
        return _padding_mask(mask) is not None and _number(scale) is not None and shape is not None and len(shape) == 4

    def replacement(
        op: Any, query: Any, key: Any, value: Any, mask: ir.Value, scale: ir.Value, heads: ir.Value, **_: Any
    ) -> Any:
        found = _padding_mask(mask)
        shape = _constant(heads)
        assert found is not None
        assert shape is not None
        keep, penalty = found
        return op.MultiHeadAttention(
            query,
            key,
            value,
            None,
            op.Cast(keep, to=_INT32),
            num_heads=int(shape[2]),
            scale=_number(scale),
            mask_filter_value=penalty,
            _domain=MICROSOFT,
        )

    return pattern.RewriteRuleSet([pattern.RewriteRule(target, replacement, is_known)], commute=True)


def _tanh_gelu_rule() -> Any:
    """The tanh form of GELU (https://arxiv.org/abs/1606.08415), spelled out → Gelu."""
    from onnxscript.rewriter import pattern

    def target(op: Any, x: Any) -> Any:
        inner = op.Mul(op.Add(x, op.Mul(op.Pow(x, 3.0), 0.044715)), 0.7978845608028654)
        return op.Mul(op.Mul(x, 0.5), op.Add(op.Tanh(inner), 1.0))

    def replacement(op: Any, x: Any) -> Any:
        return op.Gelu(x, approximate="tanh")

    return pattern.RewriteRuleSet([pattern.RewriteRule(target, replacement)], commute=True)


def _respell_residuals(model: ir.Model) -> int:
    """LayerNormalization(Add) → LayerNormalization(Sum)."""
    count = 0
    for node in model.graph:
        consumers = list(node.outputs[0].consumers()) if node.op_type == "Add" else []
        if len(consumers) == 1 and consumers[0].op_type == "LayerNormalization":
            node.op_type = "Sum"
            count += 1
    return count


def _padding_mask(additive: ir.Value) -> tuple[ir.Value, float] | None:
    """Return (mask, penalty) where a value is (1 - mask) x penalty, of shape [n, 1, 1, tokens]; else None."""
    chain: list[ir.Node] = []
    value: ir.Value | None = additive
    for operator in ("Unsqueeze", "Mul", "Sub"):
        node = value.producer() if value is not None else None
        if node is None or node.op_type != operator:
            return None
        chain.append(node)
        value = node.inputs[0] if operator != "Sub" else node.inputs[1]
    unsqueeze, product, difference = chain
    axes = _constant(unsqueeze.inputs[1])
    penalty, one = _number(product.inputs[1]), _number(difference.inputs[0])
    if value is None or penalty is None or one != 1.0 or axes is None or list(axes) != [1, 2]:
        return None
    return value, penalty


def _constant(value: ir.Value | None) -> Any:
    from onnx_ir import convenience

    tensor = convenience.get_const_tensor(value) if value is not None else None
    return None if tensor is None else tensor.numpy()


def _number(value: ir.Value | None) -> float | None:
    array = _constant(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None
