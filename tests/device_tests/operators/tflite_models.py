"""TFLite models of one operator each, as the operators stand in exported models, with what they must give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from device_tests.operators import truths
from device_tests.operators.matrices import OUTPUTS, ROWS, WIDTH, numbers, weights
from device_tests.operators.tensors import FINITE, FLOATS, Array, Filling, integers
from device_tests.operators.truths import Truth
from fastserve_converters.formats.tflite.operators import Operators
from fastserve_converters.formats.tflite.writing import OPEN, GraphWriter, ModelWriter, Value

SIGNATURE = "serving_default"
RELU = 1
"""Its number among the activations that operators may end with."""
Input = tuple[str, Mapping[str, Filling]]
Shapes = Sequence[Sequence[tuple[int, ...]]]

INT8_STEP, INT8_ZERO = 0.05, 3
INT16_STEP = 1 / 4096
OUT_STEP, OUT_ZERO = 0.21, -5
OUT16_STEP = 1 / 512


@dataclass(frozen=True)
class Case:
    """One operator.

    Attributes:
        name: the operator and what is special.
        write: adds inputs and the operator to a graph, and returns what it gives.
        truth: from the inputs to right values.
        inputs: dtype and fillings of each input.
        shapes: of the inputs, set by set.
        limit: the largest error in units of the truth.
        is_delegated: whether XNNPACK takes it in exported models, so must take it here.
        is_moved: whether numbers only change their places.
    """

    name: str
    write: Callable[[GraphWriter], Value]
    truth: Callable[..., Truth]
    inputs: Sequence[Input]
    shapes: Shapes
    limit: float = 1.0
    is_delegated: bool = True
    is_moved: bool = False

    def content(self) -> bytes:
        """Return the model."""
        writer = ModelWriter()
        graph = writer.graph(SIGNATURE)
        graph.output("result", self.write(graph))
        return writer.content()


FLOAT: Input = ("float32", FLOATS)
FINITE_FLOAT: Input = ("float32", FINITE)
TABLE_ROWS: Input = ("int32", integers(0, ROWS - 1))
ROW_SHAPES: Shapes = [[(1, 1)], [(3, 7)], [(2, 33)]]
PAIR_SHAPES: Shapes = [[(1, 1), (1, 1)], [(3, 7), (3, 7)], [(5, 33), (5, 1)], [(1, 9), (4, 9)]]
ROOT_LIMIT = 3
"""Of XNNPACK's roots, which are one Newton step from the processor's own estimate: 3/2 times the estimate's squared
error, and three roundings. From SSE to AVX2 (RSQRTPS: 3/2 x 2^-12) that is 1.7 units and the roundings, of which 1.5
were seen; with AVX-512 (14 bits) and on Arm (two steps from 8 bits) less than one unit, and the roundings."""


def _open(rank: int) -> list[int]:
    return [OPEN] * rank


def unary(name: str, truth: Callable[..., Truth], limit: float, **settings: Any) -> Case:
    """An operator of one float tensor."""
    options = settings.pop("options", None)

    def write(graph: GraphWriter) -> Value:
        return Operators(graph).unary(name, graph.input("x", _open(2)), options, **settings)

    suffix = ", approximate" if settings.get("approximate") else ""
    return Case(f"{name} float32{suffix}", write, truth, [FLOAT], ROW_SHAPES, limit)


def binary(name: str, method: str, truth: Callable[..., Truth]) -> list[Case]:
    """An operator of two float tensors, and of one and a constant, on either side."""
    constant = numbers(1, 7, seed=3)

    def write(graph: GraphWriter, *, sides: str = "xy") -> Value:
        parts = {
            "x": lambda: graph.input("x", _open(2)),
            "y": lambda: graph.input("y", _open(2)),
            "c": lambda: graph.constant("c", constant),
        }
        made: Value = getattr(Operators(graph), method)(*(parts[side]() for side in sides))
        return made

    one: Shapes = [[(1, 7)], [(4, 7)]]
    return [
        Case(f"{name} float32", write, truth, [FLOAT, FLOAT], PAIR_SHAPES),
        Case(f"{name} float32 and a constant", partial(write, sides="xc"), lambda x: truth(x, constant), [FLOAT], one),
        Case(f"{name} a constant and float32", partial(write, sides="cx"), lambda x: truth(constant, x), [FLOAT], one),
    ]


def reduction(name: str, truth: Callable[..., Truth]) -> Case:
    """A reduction of rows."""

    def write(graph: GraphWriter) -> Value:
        return Operators(graph).reduce(name, graph.input("x", [OPEN, OPEN]))

    return Case(f"{name} float32", write, truth, [FLOAT], ROW_SHAPES, limit=8)


def _moved(name: str, write: Callable[[Operators, Value], Value], move: Callable[[Array], Array]) -> Case:
    def graph_of(graph: GraphWriter) -> Value:
        return write(Operators(graph), graph.input("x", [OPEN, 3, 4]))

    return Case(
        f"{name} float32",
        graph_of,
        lambda x: truths.same(move(x)),
        [FLOAT],
        [[(1, 3, 4)], [(5, 3, 4)]],
        limit=0,
        is_moved=True,
    )


def _product(*, transposed: bool) -> Case:
    def write(graph: GraphWriter) -> Value:
        a, b = graph.input("x", [2, OPEN, OPEN]), graph.input("y", [2, OPEN, OPEN])
        return Operators(graph).product(a, b, transposed=transposed)

    pairs = [((2, 1, 1), (2, 1, 1)), ((2, 5, 16), (2, 16, 7)), ((2, 1, 33), (2, 33, 3))]
    shapes = [[a, (b[0], b[2], b[1]) if transposed else b] for a, b in pairs]
    return Case(
        f"BATCH_MATMUL float32{', right transposed' if transposed else ''}",
        write,
        lambda a, b: truths.product(a, b.swapaxes(-1, -2) if transposed else b),
        [FLOAT, FLOAT],
        shapes,
        limit=8,
    )


def product_with(
    graph: GraphWriter, x: Value, weight: Value, bias: Value | None, *, is_integer: bool, is_rectified: bool
) -> Value:
    """Add FULLY_CONNECTED as the exporters do, where it is so with ReLU as a part of it."""
    made = Operators(graph).linear(x, weight, bias, is_integer=is_integer)
    if is_rectified:
        graph.subgraph.operators[-1].builtinOptions.fusedActivationFunction = RELU
    return made


def rectified(truth: Truth, *, is_rectified: bool) -> Truth:
    """Return the truth behind ReLU, where there is one."""
    return replace(truth, values=truths.rectified(truth.values).values) if is_rectified else truth


def ends(*, has_bias: bool, is_rectified: bool) -> str:
    """Return what a name says of these."""
    return (" and bias" if has_bias else "") + (" and ReLU" if is_rectified else "")


def linear(kind: str, *, has_bias: bool, is_rectified: bool = False) -> Case:
    """FULLY_CONNECTED of floats; with integer weights its input is rounded row by row."""
    real, made = weights(kind, OUTPUTS)
    bias = numbers(OUTPUTS, seed=6) if has_bias else None

    def write(graph: GraphWriter) -> Value:
        weight = graph.constant("w", real) if made is None else graph.quantized_weight("w", made)
        added = None if bias is None else graph.constant("b", bias)
        x = graph.input("x", [OPEN, WIDTH])
        return product_with(graph, x, weight, added, is_integer=made is not None, is_rectified=is_rectified)

    def truth(x: Array) -> Truth:
        raw = truths.product(x, real.T, bias) if made is None else truths.dynamic_product(x, real, bias)
        return rectified(raw, is_rectified=is_rectified)

    return Case(
        f"FULLY_CONNECTED float32 with {kind}{ends(has_bias=has_bias, is_rectified=is_rectified)}",
        write,
        truth,
        [FLOAT if made is None else FINITE_FLOAT],
        [[(1, WIDTH)], [(5, WIDTH)]],
        limit=16 if made is None else 1,
    )


def quantized_matrix(graph: GraphWriter, value: Value, scale: float | Array, zero_point: int = 0) -> Value:
    """Say which reals a tensor's integers stand for."""
    from ai_edge_litert import schema_py_generated as schema

    quantization: Any = schema.QuantizationParametersT()
    quantization.scale = np.atleast_1d(np.asarray(scale, np.float32))
    quantization.zeroPoint = np.full(len(quantization.scale), zero_point, np.int64)
    graph.subgraph.tensors[value.index].quantization = quantization
    return value


def static_linear(bits: int, *, has_bias: bool, is_rectified: bool = False) -> Case:
    """FULLY_CONNECTED of integers with scales set beforehand (LiteRT's quantization specification)."""
    _, made = weights("int8 by channel", OUTPUTS)
    assert made is not None
    step, zero, out, out_zero = (
        (INT8_STEP, INT8_ZERO, OUT_STEP, OUT_ZERO) if bits == 8 else (INT16_STEP, 0, OUT16_STEP, 0)
    )
    scales = made.scale[:, 0].astype(np.float64) * np.float32(step)
    whole = np.rint(numbers(OUTPUTS, seed=6) / scales).astype(np.int64) if has_bias else np.zeros(OUTPUTS, np.int64)

    def write(graph: GraphWriter) -> Value:
        x = quantized_matrix(graph, graph.input("x", [OPEN, WIDTH], f"INT{bits}"), step, zero)
        weight = graph.quantized_weight("w", made)
        bias = _integer_bias(graph, whole, scales, bits) if has_bias else None
        result = graph.operator(
            "FULLY_CONNECTED",
            [x, weight, bias],
            (OPEN, OUTPUTS),
            "FullyConnectedOptions",
            version=4 if bits == 8 else 11,
            kind=f"INT{bits}",
            settings={"keepNumDims": True, "fusedActivationFunction": RELU if is_rectified else 0},
        )
        return quantized_matrix(graph, result, out, out_zero)

    def truth(x: Array) -> Truth:
        sums = (x.astype(np.int64) - zero) @ made.values.astype(np.int64).T + whole
        sums = np.maximum(sums, 0) if is_rectified else sums
        return truths.quantized(sums * scales, float(np.float32(out)), out_zero, bits)

    minimum = -(2 ** (bits - 1))
    return Case(
        f"FULLY_CONNECTED int{bits}{ends(has_bias=has_bias, is_rectified=is_rectified)}",
        write,
        truth,
        [(f"int{bits}", integers(minimum, -minimum - 1))],
        [[(1, WIDTH)], [(5, WIDTH)]],
        is_delegated=bits == 8,
    )


def _integer_bias(graph: GraphWriter, whole: Array, scales: Array, bits: int) -> Value:
    """Return a constant of 32 bits, or of 64 where values have 16."""
    value = graph.constant("b", whole.astype(np.int32))
    if bits == 16:
        from ai_edge_litert import schema_py_generated as schema

        # The writer has no constants of 64 bits; this one gets its bytes.
        tensor = graph.subgraph.tensors[value.index]
        tensor.type = schema.TensorType.INT64
        graph._owner._buffers[tensor.buffer].data = whole.view(np.uint8)
    return quantized_matrix(graph, value, scales)


def look_up(kind: str) -> Case:
    """EMBEDDING_LOOKUP: rows of a table, as floats."""
    real, made = weights(kind, ROWS)

    def write(graph: GraphWriter) -> Value:
        table = graph.constant("w", real) if made is None else graph.quantized_weight("w", made)
        return Operators(graph).look_up(table, graph.input("x", [OPEN], "INT32"))

    return Case(
        f"EMBEDDING_LOOKUP {kind}",
        write,
        lambda indices: truths.floats(real[indices]),
        [TABLE_ROWS],
        [[(1,)], [(9,)]],
        limit=0 if made is None else 1,
        is_delegated=False,
    )


def look_up_halves() -> Case:
    """EMBEDDING_LOOKUP in a table of float16 behind DEQUANTIZE."""
    halves = weights("float32", ROWS)[0].astype(np.float16)

    def write(graph: GraphWriter) -> Value:
        stored = graph.constant("w", halves)
        table = graph.operator("DEQUANTIZE", [stored], halves.shape, "DequantizeOptions", version=3)
        return Operators(graph).look_up(table, graph.input("x", [OPEN], "INT32"))

    return Case(
        "EMBEDDING_LOOKUP float16",
        write,
        lambda indices: truths.same(halves[indices].astype(np.float32)),
        [TABLE_ROWS],
        [[(1,)], [(9,)]],
        limit=0,
        is_delegated=False,
    )


def _quantize(bits: int) -> Case:
    step, zero = (INT8_STEP, INT8_ZERO) if bits == 8 else (INT16_STEP, 0)

    def write(graph: GraphWriter) -> Value:
        made = graph.operator("QUANTIZE", [graph.input("x", _open(2))], _open(2), "QuantizeOptions", kind=f"INT{bits}")
        return quantized_matrix(graph, made, step, zero)

    def truth(x: Array) -> Truth:
        return truths.quantized(x, float(np.float32(step)), zero, bits)

    ties: Filling = lambda rng, shape: (rng.integers(-90, 90, shape) + 0.5) * np.float32(step)  # noqa: E731
    fillings = {**FINITE, "ties": ties, "inf": FLOATS["inf"], "-inf": FLOATS["-inf"]}
    return Case(
        f"QUANTIZE float32 to int{bits}",
        write,
        truth,
        [("float32", fillings)],
        ROW_SHAPES,
        is_delegated=bits == 8,
    )


def _dequantize(bits: int) -> Case:
    step, zero = (INT8_STEP, INT8_ZERO) if bits == 8 else (INT16_STEP, 0)
    minimum = -(2 ** (bits - 1))

    def write(graph: GraphWriter) -> Value:
        x = quantized_matrix(graph, graph.input("x", _open(2), f"INT{bits}"), step, zero)
        return graph.operator("DEQUANTIZE", [x], _open(2), "DequantizeOptions", version=2)

    return Case(
        f"DEQUANTIZE int{bits}",
        write,
        lambda x: truths.floats((x.astype(np.int64) - zero) * float(np.float32(step))),
        [(f"int{bits}", integers(minimum, -minimum - 1))],
        ROW_SHAPES,
        is_delegated=bits == 8,
    )


def dequantized_linear(kind: str, *, has_bias: bool, is_rectified: bool = False) -> Case:
    """FULLY_CONNECTED of floats with a constant of fewer bits behind DEQUANTIZE, which XNNPACK fuses."""
    real, made = weights("float32" if kind == "float16" else kind, OUTPUTS)
    real = real if made is not None else real.astype(np.float16).astype(np.float32)
    bias = numbers(OUTPUTS, seed=6) if has_bias else None

    def write(graph: GraphWriter) -> Value:
        stored = graph.constant("w", real.astype(np.float16)) if made is None else graph.quantized_weight("w", made)
        weight = graph.operator("DEQUANTIZE", [stored], (OUTPUTS, WIDTH), "DequantizeOptions", version=3)
        added = None if bias is None else graph.constant("b", bias)
        x = graph.input("x", [OPEN, WIDTH])
        return product_with(graph, x, weight, added, is_integer=False, is_rectified=is_rectified)

    return Case(
        f"DEQUANTIZE constant {kind}, FULLY_CONNECTED{ends(has_bias=has_bias, is_rectified=is_rectified)}",
        write,
        lambda x: rectified(truths.product(x, real.T, bias), is_rectified=is_rectified),
        [FLOAT],
        [[(1, WIDTH)], [(5, WIDTH)]],
        limit=16,
    )


def _converted(name: str, kinds: tuple[str, str], inputs: Input, truth: Callable[..., Truth]) -> Case:
    def write(graph: GraphWriter) -> Value:
        return graph.operator("CAST", [graph.input("x", [OPEN], kinds[0])], [OPEN], "CastOptions", kind=kinds[1])

    return Case(name, write, truth, [inputs], [[(1,)], [(9,)]], limit=0, is_delegated=False)


def _greater(graph: GraphWriter) -> Value:
    constant = graph.constant("c", np.array(-1.0, np.float32))
    return graph.operator("GREATER", [graph.input("x", _open(2)), constant], _open(2), "GreaterOptions", kind="BOOL")


def _cumsum(graph: GraphWriter) -> Value:
    x, axis = graph.input("x", _open(2)), graph.constant("axis", np.array(1, np.int32))
    return graph.operator("CUMSUM", [x, axis], _open(2), "CumsumOptions")


def _integer_reshape(graph: GraphWriter) -> Value:
    shape = graph.constant("shape", np.array([-1], np.int32))
    settings = {"newShape": [-1]}
    x = graph.input("x", [1, OPEN], "INT32")
    return graph.operator("RESHAPE", [x, shape], [OPEN], "ReshapeOptions", kind="INT32", settings=settings)


def _slice(graph: GraphWriter) -> Value:
    begin, size = (graph.constant(n, np.array(v, np.int32)) for n, v in {"b": [0, 1, 0], "s": [-1, 2, 4]}.items())
    return graph.operator("SLICE", [graph.input("x", [OPEN, 3, 4]), begin, size], [OPEN, 2, 4], "SliceOptions")


def _concatenate(count: int) -> Case:
    def write(graph: GraphWriter) -> Value:
        return Operators(graph).concatenate([graph.input(f"x{i}", [OPEN, 4]) for i in range(count)], 1)

    return Case(
        f"CONCATENATION of {count} float32",
        write,
        lambda *parts: truths.same(np.concatenate(parts, 1)),
        [FLOAT] * count,
        [[(1, 4)] * count, [(5, 4)] * count],
        limit=0,
        is_moved=True,
    )


def _gather(graph: GraphWriter) -> Value:
    table = graph.constant("table", weights("float32", ROWS)[0])
    return Operators(graph).gather(table, graph.input("x", [OPEN], "INT32"))


LINEAR_KINDS = ("float32", "int8 by channel", "int4 blocks of 32")
TABLE_KINDS = (*LINEAR_KINDS, "int4 blocks of 32, float16", "int4 blocks of 64, float16")
_WHOLE: Input = ("int32", integers(-(2**20), 2**20))
_COUNTS: Input = ("float32", {**integers(-1, 512), "between": lambda rng, shape: rng.uniform(-1000, 1000, shape)})
_FLAGS: Input = ("bool", integers(0, 1))
_FLAT: Shapes = [[(1, 1)], [(1, 9)], [(3, 5)]]

CASES: Sequence[Case] = [
    *binary("ADD", "add", truths.add),
    *binary("SUB", "subtract", truths.subtract),
    *binary("MUL", "multiply", truths.multiply),
    *binary("DIV", "divide", truths.divide),
    *binary("MAXIMUM", "maximum", truths.maximum),
    *binary("MINIMUM", "minimum", truths.minimum),
    unary("RSQRT", truths.reciprocal_root, ROOT_LIMIT),
    unary("SQRT", truths.square_root, ROOT_LIMIT),
    unary("EXP", truths.exponential, 8, options="ExpOptions"),
    unary("TANH", truths.tangent, 8),
    unary("LOGISTIC", truths.logistic, 8),
    unary("RELU", truths.rectified, 0),
    unary("GELU", truths.gelu, 8, options="GeluOptions"),
    unary("GELU", truths.gelu_of_tanh, 8, options="GeluOptions", approximate=True),
    unary("SOFTMAX", truths.softmax, 8, options="SoftmaxOptions", beta=1.0),
    reduction("MEAN", truths.mean),
    reduction("SUM", truths.total),
    reduction("REDUCE_MAX", truths.largest),
    _product(transposed=False),
    _product(transposed=True),
    _moved("RESHAPE", lambda ops, x: ops.reshape(x, [OPEN, 12]), lambda x: x.reshape(-1, 12)),
    _moved("TRANSPOSE", lambda ops, x: ops.transpose(x, [1, 0, 2]), lambda x: x.transpose(1, 0, 2)),
    _moved("STRIDED_SLICE", lambda ops, x: ops.slice(x, 2, 1, 2), lambda x: x[:, :, 1:3]),
    Case("SLICE float32", _slice, lambda x: truths.same(x[:, 1:3]), [FLOAT], [[(1, 3, 4)], [(5, 3, 4)]], 0, False),
    _concatenate(2),
    _concatenate(3),
    _concatenate(4),
    Case(
        "GATHER float32",
        _gather,
        lambda i: truths.same(weights("float32", ROWS)[0][i]),
        [TABLE_ROWS],
        [[(1,)], [(9,)]],
        0,
        False,
    ),
    *(linear(kind, has_bias=b) for kind in LINEAR_KINDS for b in (False, True)),
    *(linear(kind, has_bias=True, is_rectified=True) for kind in LINEAR_KINDS),
    *(static_linear(bits, has_bias=b) for bits in (8, 16) for b in (False, True)),
    *(static_linear(bits, has_bias=True, is_rectified=True) for bits in (8, 16)),
    *(look_up(kind) for kind in TABLE_KINDS),
    look_up_halves(),
    _quantize(8),
    _quantize(16),
    _dequantize(8),
    _dequantize(16),
    *(dequantized_linear(kind, has_bias=b) for kind in ("float16", "int8 by channel") for b in (False, True)),
    *(dequantized_linear(kind, has_bias=True, is_rectified=True) for kind in ("float16", "int8 by channel")),
    _converted("CAST bool to float32", ("BOOL", "FLOAT32"), _FLAGS, lambda x: truths.same(x.astype(np.float32))),
    _converted("CAST float32 to int32", ("FLOAT32", "INT32"), _COUNTS, lambda x: truths.same(x.astype(np.int32))),
    _converted("CAST int32 to float32", ("INT32", "FLOAT32"), _WHOLE, lambda x: truths.same(x.astype(np.float32))),
    Case("GREATER float32", _greater, lambda x: truths.same(x > -1), [FLOAT], _FLAT, 0, False),
    Case("CUMSUM float32", _cumsum, truths.running_total, [FINITE_FLOAT], _FLAT, 8, False),
    Case("RESHAPE int32", _integer_reshape, lambda x: truths.same(x.reshape(-1)), [_WHOLE], _FLAT[:2], 0, False),
]
