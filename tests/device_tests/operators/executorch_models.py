"""ExecuTorch programs of one operator each, lowered as exported models are, with what they must give.

This module needs no PyTorch until a module is made: programs are made in a process of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from device_tests.operators import truths
from device_tests.operators.matrices import OUTPUTS, ROWS, WIDTH, numbers, weights
from device_tests.operators.tensors import FINITE, FLOATS, Array, Filling, integers
from device_tests.operators.truths import Truth

Input = tuple[str, Mapping[str, Filling]]
FLOAT: Input = ("float32", FLOATS)
FINITE_FLOAT: Input = ("float32", FINITE)
ROW_NUMBERS: Input = ("int32", integers(0, ROWS - 1))
LONG_ROW_NUMBERS: Input = ("int64", integers(0, ROWS - 1))
MAX = 40
"""The largest size of the open dimension `n`."""

ENCODER, HALF, DECODER = LOWERINGS = ("encoder", "half", "decoder")
"""Kinds of exported models that are lowered in ways of their own; all cases of one are in one program."""
STEP, ZERO, OUT_STEP, OUT_ZERO, SHORT_STEP = 0.05, 3, 0.21, -5, 1 / 4096
CONTEXT, HEADS, SHARED_HEADS, HEAD = 40, 4, 2, 8


@dataclass(frozen=True)
class Case:
    """One operator.

    Attributes:
        name: the operator and what is special.
        module: makes the module whose `forward` takes the inputs in order.
        truth: from the inputs to right values.
        inputs: dtype and fillings of each input.
        dims: of the inputs; `n` is open.
        covers: what the case is for, in the words of `signatures`. The lowered program must have it.
        limit: the largest error in units of the truth.
        lowering: as which kind of exported model it is lowered.
        is_flushed: whether numbers too small for a normal float32 count as zero in it, as in XNNPACK's arithmetic.
    """

    name: str
    module: Callable[[], Any]
    truth: Callable[..., Truth]
    inputs: Sequence[Input]
    dims: Sequence[Sequence[int | str]]
    covers: Sequence[str]
    limit: float = 1.0
    lowering: str = ENCODER
    is_flushed: bool = True

    def shapes(self, size: int) -> list[tuple[int, ...]]:
        """Return the shapes of the inputs where `n` is a size."""
        return [tuple(size if d == "n" else int(d) for d in dims) for dims in self.dims]


def called(function: Callable[..., Any], **constants: Array) -> Callable[[], Any]:
    """Return what makes a module that calls a function with its inputs and, by name, its constants."""

    def made() -> Any:
        import torch

        class Called(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                for name, value in constants.items():
                    self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(value)))

            def forward(self, *inputs: torch.Tensor) -> Any:
                return function(*inputs, **dict(self.named_buffers()))

        return Called().eval()

    return made


def _torch(name: str) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        import torch

        return getattr(torch, name)(*arguments)

    return call


def _functional(name: str, *arguments: Any) -> Any:
    import torch

    return getattr(torch.nn.functional, name)(*arguments)


def pointwise(name: str, torch_name: str, truth: Callable[..., Truth], limit: float, count: int = 1) -> Case:
    """An operator that XNNPACK has for floats."""
    given = ", ".join(["fp32"] * count)
    return Case(
        f"{name} float32",
        called(_torch(torch_name)),
        truth,
        [FLOAT] * count,
        [["n", 7]] * count,
        [f"xnnpack {name}({given}) -> fp32"],
        limit,
    )


def _clamped(x: Array) -> Truth:
    return truths.same(np.maximum(x, np.float32(1e-9)))


def _norm(x: Array) -> Truth:
    wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        deviation = wide - wide.mean(-1, keepdims=True)
        spread = np.sqrt((deviation**2).mean(-1, keepdims=True) + 1e-5)
        size = np.abs(wide).max(-1, keepdims=True)
        gain, shift = NORM_GAIN.astype(np.float64), NORM_SHIFT.astype(np.float64)
        # What is left of large numbers that are alike has lost their last places.
        unit = (size / spread * np.abs(gain) + np.abs(shift) + 1) * truths.ULP * (1 + size / spread)
        return Truth(deviation / spread * gain + shift, np.nan_to_num(unit, nan=1.0, posinf=1.0))


NORM_GAIN, NORM_SHIFT = numbers(7, seed=11), numbers(7, seed=12)
POSITIONS = numbers(MAX, 7, seed=13)
NORM_SIGNATURE = "aten::native_layer_norm.out(float, float, float, float, float, float)"
BIAS = numbers(OUTPUTS, seed=6)


def _layer_norm(x: Any, gain: Any, shift: Any) -> Any:
    import torch

    return torch.nn.functional.layer_norm(x, (7,), gain, shift, 1e-5)


def linear(kind: str, *, has_bias: bool, dynamic: bool, lowering: str = ENCODER, is_clamped: bool = False) -> Case:
    """A linear layer, of floats or of integers; with dynamic activations its input is rounded by token.

    XNNPACK makes a ReLU behind it a part of it.
    """
    real, made = weights(kind, OUTPUTS)
    if lowering == HALF:
        real = real.astype(np.float16).astype(np.float32)

    def module() -> Any:
        import torch

        from fastserve_converters.formats.executorch.decoder_layers import Product, products
        from fastserve_converters.formats.executorch.quantized_weights import dequantized

        layer = torch.nn.Linear(WIDTH, OUTPUTS, bias=has_bias)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weights(kind, OUTPUTS)[0]))
            if has_bias:
                layer.bias.copy_(torch.from_numpy(BIAS))
        layer.requires_grad_(requires_grad=False)

        class Linear(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.product = Product(layer, made, "layer")

            def forward(self, x: Any) -> Any:
                if dynamic or made is None:
                    made_of = products(x, self.product)[0]
                    return torch.relu(made_of) if is_clamped else made_of
                assert self.product.scheme is not None
                weight = dequantized(lambda f, *a: f(*a), self.product.constants(), self.product.scheme)
                return torch.nn.functional.linear(x, weight)

        return Linear().eval()

    bias = BIAS if has_bias else None
    stored = {"float32": "fp16" if lowering == HALF else "fp32", "int8 by channel": "qcint8"}.get(kind, "qbint4")
    given = "qdint8" if dynamic else "fp32"
    signature = f"xnnpack FullyConnected({given}, constant {stored}, {'constant fp32' if has_bias else 'none'}) -> fp32"
    signature += "; clamped" if is_clamped else ""
    how = " by token" if dynamic else ""

    def truth(x: Array) -> Truth:
        raw = truths.dynamic_product(x, real, bias) if dynamic else truths.product(x, real.T, bias)
        return replace(raw, values=truths.rectified(raw.values).values) if is_clamped else raw

    ends = (" with bias" if has_bias else "") + (" and ReLU" if is_clamped else "")
    return Case(
        f"linear{how} {'float16' if lowering == HALF else kind}{ends}",
        module,
        truth,
        [FINITE_FLOAT if dynamic else FLOAT],
        [["n", WIDTH]],
        [signature, *(["xnnpack Convert(fp32) -> qdint8"] if dynamic else [])],
        limit=1 if dynamic else 16,
        lowering=lowering,
    )


def static_linear(*, has_bias: bool, is_clamped: bool = False) -> Case:
    """A linear layer of integers between tensors of set scales, with moves of integers before it."""
    _, made = weights("int8 by channel", OUTPUTS)
    assert made is not None
    integer, scale = made.values, made.scale[:, 0]
    bias = BIAS if has_bias else None

    def function(x: Any, weight: Any, scale: Any, zeros: Any, bias: Any = None) -> Any:
        import torch

        ops = torch.ops.quantized_decomposed

        def rounded(value: Any, step: float, zero: int) -> Any:
            parameters = (step, zero, -128, 127, torch.int8)
            return ops.dequantize_per_tensor(ops.quantize_per_tensor(value, *parameters), *parameters)

        shaped = rounded(rounded(x, STEP, ZERO).reshape(-1, 3, WIDTH), STEP, ZERO)
        moved = rounded(shaped.permute(1, 0, 2), STEP, ZERO)
        real = ops.dequantize_per_channel(weight, scale, zeros, 0, -127, 127, torch.int8)
        result = torch.nn.functional.linear(moved, real, bias)
        return rounded(torch.relu(result) if is_clamped else result, OUT_STEP, OUT_ZERO)

    def truth(x: Array) -> Truth:
        steps = truths.quantized(x, STEP, ZERO, 8).values - ZERO
        moved = steps.reshape(-1, 3, WIDTH).transpose(1, 0, 2)
        scales = scale.astype(np.float64) * STEP
        whole = 0 if bias is None else np.rint(bias / scales)
        sums = moved @ integer.T.astype(np.float64) + whole
        sums = np.maximum(sums, 0) if is_clamped else sums
        values = truths.quantized(sums * scales, OUT_STEP, OUT_ZERO, 8).values
        return Truth((values - OUT_ZERO) * OUT_STEP, OUT_STEP * 1.0001)

    constants = {"weight": integer, "scale": scale, "zeros": np.zeros(OUTPUTS, np.int64)}
    return Case(
        f"linear int8{' with bias' if has_bias else ''}{' and ReLU' if is_clamped else ''}",
        called(function, **constants, **({"bias": BIAS} if has_bias else {})),
        truth,
        [FINITE_FLOAT],
        [["n", 3 * WIDTH]],
        [
            f"xnnpack FullyConnected(qint8, constant qcint8, {'constant qcint32' if has_bias else 'none'}) -> qint8"
            + ("; clamped" if is_clamped else ""),
            "xnnpack Convert(fp32) -> qint8",
            "xnnpack Convert(qint8) -> fp32",
            "xnnpack StaticReshape(qint8) -> qint8",
            "xnnpack StaticTranspose(qint8) -> qint8",
        ],
    )


def rounded_to_16_bits() -> Case:
    """Rounding to 16 bits and back, by ExecuTorch's own kernels."""

    def function(x: Any) -> Any:
        import torch

        ops = torch.ops.quantized_decomposed
        parameters = (SHORT_STEP, 0, -32767, 32767, torch.int16)
        return ops.dequantize_per_tensor(ops.quantize_per_tensor(x, *parameters), *parameters)

    def truth(x: Array) -> Truth:
        with np.errstate(all="ignore"):
            steps = np.clip(np.rint(x.astype(np.float64) / SHORT_STEP), -32767, 32767)
        return Truth(steps * SHORT_STEP, SHORT_STEP / 1000)

    return Case(
        "round to int16",
        called(function),
        truth,
        [("float32", {**FINITE, "inf": FLOATS["inf"], "-inf": FLOATS["-inf"]})],
        [["n", 7]],
        [
            "quantized_decomposed::quantize_per_tensor.out(float, short, short)",
            "quantized_decomposed::dequantize_per_tensor.out(short, float, float)",
        ],
    )


def table(kind: str, signature: str, *, lowering: str = ENCODER) -> Case:
    """A lookup in a table; encoders give 32-bit row numbers, which become 64 bits for tables of integers."""
    real, made = weights("float32" if kind == "float16" else kind, ROWS)
    stored = real.astype(np.float16) if kind == "float16" else real
    is_encoder = lowering != DECODER

    def function(indices: Any, values: Any) -> Any:
        import torch

        return torch.nn.functional.embedding(indices.reshape(-1), values).to(torch.float32)

    def module() -> Any:
        import torch

        from fastserve_converters.formats.executorch.quantized_weights import embedding_constants, looked_up

        if made is None:
            return called(function, values=stored)()

        class Embedding(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                for name, value in embedding_constants(made, "table").items():
                    self.register_buffer(name, value.contiguous())

            def forward(self, indices: Any) -> Any:
                # Decoders look up what they are given as it is.
                rows = indices.reshape(-1).to(torch.int64) if is_encoder else indices
                constants = dict(self.named_buffers())
                return looked_up(lambda f, *a, **k: f(*a, **k), constants, made.scheme, rows)

        return Embedding().eval()

    def truth(indices: Array) -> Truth:
        rows = indices.reshape(-1) if is_encoder else indices
        if made is None:
            return truths.same(stored[rows].astype(np.float32))
        # Scales are stored in float16, and so is what is looked up where there are zero points.
        scale = made.scale.astype(np.float16).astype(np.float64)
        grouped = made.values.reshape(ROWS, scale.shape[1], -1) - made.zero_point[..., None].astype(np.float64)
        values = (grouped * scale[..., None]).reshape(ROWS, -1)[rows]
        return truths.floats(values) if made.scheme.symmetric else Truth(values, np.abs(values) * 2.0**-11 + 2.0**-25)

    wide = "dim_order_ops::_to_dim_order_copy.out(int, long, long)"
    covers = [signature]
    if is_encoder:
        covers += ["executorch_prim::et_view.default(int, int)", *([wide] if made is not None else [])]
        covers += ["dim_order_ops::_to_dim_order_copy.out(half, float, float)"] if ", half)" in signature else []
    return Case(
        f"table {kind}{'' if is_encoder else ', 64-bit row numbers'}",
        module,
        truth,
        [ROW_NUMBERS if is_encoder else LONG_ROW_NUMBERS],
        [[1, "n"]],
        covers,
        limit=0 if made is None else 1,
        lowering=lowering,
    )


def attention(*, window: int | None, softcap: float | None = None, is_last: bool = False) -> Case:
    """A decoder's attention at the beginning of its context, of all tokens or of the last."""
    scale = 0.25

    def module() -> Any:
        import torch

        from fastserve_converters.formats.executorch.decoder_attention import (
            CappedAttention,
            FusedAttention,
            Sight,
            TokenSpan,
            needs_mask,
        )
        from fastserve_converters.models.decoder.form import AttentionSettings

        settings = AttentionSettings(HEADS, SHARED_HEADS, HEAD, scale, softcap, window)
        aten = torch.ops.aten

        class Attention(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.register_buffer("one", torch.ones(1))
                self.attend = (FusedAttention if softcap is None else CappedAttention)(settings, CONTEXT)
                self.sight = Sight(window, CONTEXT) if needs_mask(settings, CONTEXT) else None

            def forward(self, query: Any, key: Any, value: Any, position: Any) -> Any:
                start, count = aten._local_scalar_dense.default(position), query.shape[1]
                torch._check(start >= 0)
                torch._check(start + count <= CONTEXT)
                places = aten.arange.start_step(0, count, 1) + position
                mask = None if self.sight is None else self.sight(places.to(torch.float32).view(-1, 1))
                if is_last:
                    query, mask = query[:, -1:], None if mask is None else mask[-1:]
                return self.attend(query, key, value, TokenSpan(start, count), mask) * self.one

        return Attention().eval()

    def truth(query: Array, key: Array, value: Array, _position: Array) -> Truth:
        count = query.shape[1]
        groups = HEADS // SHARED_HEADS
        q, k, v = (t[0].astype(np.float64).transpose(1, 0, 2) for t in (query, key, value))
        k, v = np.repeat(k, groups, 0), np.repeat(v, groups, 0)
        with np.errstate(all="ignore"):
            scores = (q @ k.transpose(0, 2, 1)) * scale
            noise = (np.abs(q) @ np.abs(k).transpose(0, 2, 1)).max() * scale
            if softcap is not None:
                scores, noise = softcap * np.tanh(scores / softcap), min(noise, 2 * softcap)
            distance = np.arange(count)[:, None] - np.arange(count)[None]
            is_seen = (distance >= 0) & (distance < (window or CONTEXT))
            scores = np.where(is_seen, scores, -np.inf)
            powers = np.exp(scores - scores.max(-1, keepdims=True))
            shares = powers / powers.sum(-1, keepdims=True)
            mixed = (shares @ v).transpose(1, 0, 2).reshape(count, -1)
            size = np.abs(v).max()
            mixed = mixed[-1:] if is_last else mixed
        return Truth(mixed, size * truths.ULP * (8 + 4 * noise) + truths.MIN * 2**24)

    covers = {
        (False, False): ["llama::custom_sdpa.out(float, float, float, float, float)"],
        (True, False): [
            "llama::custom_sdpa.out(float, float, float, float, float, float)",
            "xnnpack Minimum(fp32, fp32) -> fp32",
            "aten::_to_copy.out(long, float, float)",
        ],
        (True, True): ["xnnpack Tanh(fp32) -> fp32", "xnnpack Copy(fp32) -> fp32"],
    }[window is not None, softcap is not None]
    prims = ["executorch_prim::add.Scalar()", "executorch_prim::sub.Scalar()"] if is_last else []
    numbered: Input = ("int64", {"random": lambda _, shape: np.zeros(shape, np.int64)})
    # Sums of what is hidden and of what is not would not be told apart behind numbers like these.
    fillings = {n: f for n, f in FINITE.items() if n not in {"ten thousands", "float16's largest", "one large"}}
    moderate: Input = ("float32", fillings)
    name = "attention" + ("" if window is None else " in a window") + ("" if softcap is None else ", capped")
    name += " of the last token" if is_last else ""
    return Case(
        name,
        module,
        truth,
        [moderate] * 3 + [numbered],
        [[1, "n", HEADS, HEAD], *[[1, "n", SHARED_HEADS, HEAD]] * 2, [1]],
        ["llama::update_cache.out(float, float, float, float)", "aten::_local_scalar_dense(long)", *covers, *prims],
        limit=4,
        lowering=DECODER,
    )


def places() -> Case:
    """The positions of new tokens, and rows of a table for them."""
    real = weights("float32", ROWS)[0]

    def module() -> Any:
        import torch

        aten = torch.ops.aten

        def function(ids: Any, position: Any, values: Any) -> Any:
            rows = aten.arange.start_step(0, ids.shape[1], 1) + position
            return torch.nn.functional.embedding(rows, values)

        return called(function, values=real)()

    def truth(ids: Array, position: Array) -> Truth:
        return truths.same(real[np.arange(ids.shape[1]) + position])

    return Case(
        "places",
        module,
        truth,
        [LONG_ROW_NUMBERS, ("int64", integers(0, 3))],
        [[1, "n"], [1]],
        [
            "aten::arange.start_out(long, long)",
            "aten::add.out(long, long, long, long)",
            "aten::embedding.out(float, long, float, float)",
        ],
        limit=0,
        lowering=DECODER,
    )


def _moved(
    name: str, function: Callable[..., Any], move: Callable[..., Array], covers: str, dims: Any, count: int = 1
) -> Case:
    return Case(
        f"{name} float32",
        called(function),
        lambda *x: truths.same(move(*x)),
        [FLOAT] * count,
        [dims] * count,
        [covers],
        limit=0,
        is_flushed=False,
    )


def _concatenated(*parts: Any) -> Any:
    import torch

    return torch.cat(parts, -1)


CASES: Sequence[Case] = [
    pointwise("Add", "add", truths.add, 1, 2),
    pointwise("Subtract", "sub", truths.subtract, 1, 2),
    pointwise("Multiply", "mul", truths.multiply, 1, 2),
    pointwise("Div", "div", truths.divide, 1, 2),
    pointwise("Minimum", "minimum", truths.minimum, 1, 2),
    pointwise("SquareRoot", "sqrt", truths.square_root, 2),
    pointwise("ReciprocalSquareRoot", "rsqrt", truths.reciprocal_root, 2),
    pointwise("Sigmoid", "sigmoid", truths.logistic, 8),
    pointwise("Tanh", "tanh", truths.tangent, 8),
    Case(
        "Add float32 and ReLU",
        called(lambda x, y: (x + y).relu()),
        lambda x, y: truths.rectified(truths.add(x, y).values),
        [FLOAT, FLOAT],
        [["n", 7], ["n", 7]],
        ["xnnpack Add(fp32, fp32) -> fp32; clamped"],
    ),
    Case(
        "Clamp float32",
        called(lambda x: x.clamp(min=1e-9)),
        _clamped,
        [FLOAT],
        [["n", 7]],
        ["xnnpack Clamp(fp32) -> fp32; clamped"],
    ),
    Case(
        "Gelu float32",
        called(lambda x: _functional("gelu", x)),
        truths.gelu,
        [FLOAT],
        [["n", 7]],
        ["xnnpack Gelu(fp32) -> fp32"],
        limit=8,
    ),
    Case(
        "Softmax float32",
        called(lambda x: x.softmax(-1)),
        truths.softmax,
        [FLOAT],
        [["n", 7]],
        ["xnnpack Softmax(fp32) -> fp32"],
        limit=8,
    ),
    Case(
        "BatchMatrixMultiply float32",
        called(_torch("bmm")),
        truths.product,
        [FLOAT, FLOAT],
        [[2, "n", 16], [2, 16, "n"]],
        ["xnnpack BatchMatrixMultiply(fp32, fp32) -> fp32"],
        limit=8,
    ),
    _moved(
        "StaticReshape",
        lambda x: x.reshape(-1, 12),
        lambda x: x.reshape(-1, 12),
        "xnnpack StaticReshape(fp32) -> fp32",
        ["n", 3, 4],
    ),
    _moved(
        "StaticTranspose",
        lambda x: x.permute(1, 0, 2),
        lambda x: x.transpose(1, 0, 2),
        "xnnpack StaticTranspose(fp32) -> fp32",
        ["n", 3, 4],
    ),
    _moved(
        "Concatenate4",
        _concatenated,
        lambda *x: np.concatenate(x, -1),
        "xnnpack Concatenate4(fp32, fp32, fp32, fp32, none) -> fp32",
        ["n", 3],
        4,
    ),
    Case(
        "slice_copy float32",
        called(lambda x, table: table[: x.shape[0]] + x, table=POSITIONS),
        lambda x: truths.add(POSITIONS[: len(x)], x),
        [FLOAT],
        [["n", 7]],
        ["aten::slice_copy.Tensor_out(float, float, float)", "aten::sym_size.int(float)"],
    ),
    _moved(
        "select_copy", lambda x: x[:, 0], lambda x: x[:, 0], "aten::select_copy.int_out(float, float, float)", ["n", 7]
    ),
    Case(
        "max.dim float32",
        called(lambda x: x.max(1).values),
        lambda x: truths.largest(x, 1, keep=False),
        [FLOAT],
        [["n", 7]],
        ["aten::max.dim_max(float, float, long)"],
        is_flushed=False,
    ),
    Case(
        "sum float32",
        called(lambda x: x.sum(-1, keepdim=True)),
        truths.total,
        [FLOAT],
        [["n", 7]],
        ["aten::sum.IntList_out(float, float, float)"],
        limit=8,
        is_flushed=False,
    ),
    Case(
        "pow float32",
        called(lambda x: x.pow(3.0)),
        lambda x: truths.floats(x.astype(np.float64) ** 3),
        [FLOAT],
        [["n", 7]],
        ["aten::pow.Tensor_Scalar_out(float, float, float)"],
        limit=2,
    ),
    Case(
        "layer norm float32",
        called(_layer_norm, gain=NORM_GAIN, shift=NORM_SHIFT),
        _norm,
        [FLOAT],
        [["n", 7]],
        [NORM_SIGNATURE],
        limit=8,
    ),
    *(linear("float32", has_bias=b, dynamic=False) for b in (False, True)),
    linear("float32", has_bias=True, dynamic=False, is_clamped=True),
    *(linear(k, has_bias=True, dynamic=True, is_clamped=True) for k in ("int8 by channel", "int4 blocks of 32")),
    linear("float32", has_bias=True, dynamic=False, lowering=HALF, is_clamped=True),
    linear("float32", has_bias=True, dynamic=False, lowering=HALF),
    linear("int8 by channel", has_bias=False, dynamic=False),
    *(linear(k, has_bias=b, dynamic=True) for k in ("int8 by channel", "int4 blocks of 32") for b in (False, True)),
    *(static_linear(has_bias=b) for b in (False, True)),
    static_linear(has_bias=True, is_clamped=True),
    rounded_to_16_bits(),
    table("float32", "aten::embedding.out(float, int, float, float)"),
    table("float16", "aten::embedding.out(half, int, half, half)"),
    table("int8 by channel", "quantized_decomposed::embedding_byte.dtype_out(char, half, long, float, float)"),
    table(
        "int4 blocks of 48, zero points",
        "quantized_decomposed::embedding_4bit.dtype_out(byte, half, half, long, half, half)",
    ),
    places(),
    table(
        "int4 blocks of 32",
        "quantized_decomposed::embedding_4bit.dtype_out(byte, half, long, float, float)",
        lowering=DECODER,
    ),
    attention(window=None),
    attention(window=None, is_last=True),
    attention(window=5),
    attention(window=5, softcap=3.0),
    attention(window=5, softcap=3.0, is_last=True),
]


def cases_of(lowering: str) -> list[Case]:
    """Return the cases of one program, in its order."""
    return [case for case in CASES if case.lowering == lowering]
