"""Weights for ONNX Runtime's products of integers: its kernel on this processor gives the exact sums.

Which kernel that is differs: those for AVX2 and AVX-512 without VNNI add two products in 16 bits. The largest
activations there are, before the largest weights, tell whether anything was lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx_ir import tape as tapes

from fastserve_converters.formats.onnx.fusion import MICROSOFT
from fastserve_converters.formats.onnx.grouped import grouped_product
from fastserve_converters.formats.onnx.products import PAIR_LIMIT, PRODUCTS
from fastserve_converters.formats.onnx.quantized_weights import Initializers, int8_matrix
from fastserve_converters.precisions import INT8, WeightScheme
from fastserve_converters.quantization.weights import pair_sums, quantize_nearest
from fastserve_converters.quantized_weight import QuantizedWeight

INT4 = WeightScheme(4, 16, symmetric=False, scale="float16")
RNG = np.random.default_rng(0)
PATTERNS = {
    "largest": np.array([1.0]),
    "of both signs": np.array([1.0, -1.0]),
    "pairs": np.array([1.0, 1.0, -1.0, -1.0]),
    "second and third": np.array([0.01, 1.0, 1.0, 0.01]),
    "first and third": np.array([1.0, 0.01, 1.0, 0.01]),
    "normal": RNG.standard_normal(257),
    "one large": np.concatenate([[30.0], RNG.standard_normal(63)]),
}
"""Rows of weights, repeated to the length that is wanted."""
SHAPES = [(1, 1, 1), (1, 384, 24), (2, 30, 17), (5, 33, 16), (16, 64, 48), (67, 1030, 35), (3, 1536, 8)]
"""Tokens, inputs and outputs."""


def matrix_of(rows: np.ndarray, outputs: int, inputs: int) -> np.ndarray:
    return np.stack([np.roll(np.resize(rows, inputs), shift * 2) for shift in range(outputs)]).astype(np.float32)


def session_of(model: ir.Model) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def loaded_matrix(weight: QuantizedWeight, factors: np.ndarray | None = None) -> np.ndarray:
    """Return the quantized weights that are multiplied, shape [inputs, outputs], as they are once the model is
    loaded."""
    tape, graph = tapes.Tape(), ir.Graph([], [], nodes=[], opset_imports={"": 21}, name="matrix")
    matrix = int8_matrix(tape, Initializers(graph), "layer", weight, factors)
    if matrix.values.const_value is not None:
        return matrix.values.const_value.numpy()
    graph.extend(tape.nodes)
    matrix.values.name = "matrix"
    matrix.values.type = ir.TensorType(ir.DataType.INT8)
    graph.outputs.append(matrix.values)
    return np.asarray(session_of(ir.Model(graph, ir_version=10)).run(None, {})[0])


def result_of(activations: np.ndarray, product: Callable[[Any, Initializers, ir.Value], ir.Value]) -> np.ndarray:
    """Return what ONNX Runtime gives for a product, which `product` writes to a tape."""
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 20, MICROSOFT: 1}, name="product")
    dtype = ir.DataType.from_numpy(activations.dtype)
    x = ir.Value(name="x", type=ir.TensorType(dtype), shape=ir.Shape(activations.shape))
    tape = tapes.Tape()
    result = product(tape, Initializers(graph), x)
    graph.inputs.append(x)
    graph.extend(tape.nodes)
    result.name = "product"
    result.type = ir.TensorType(ir.DataType.FLOAT if dtype == ir.DataType.FLOAT else ir.DataType.INT32)
    graph.outputs.append(result)
    return np.asarray(session_of(ir.Model(graph, ir_version=9)).run(None, {"x": activations})[0])


def multiplied(activations: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return the sums for unsigned activations."""
    return result_of(
        activations, lambda tape, initializers, x: tape.op("MatMulInteger", [x, initializers.add("matrix", matrix)])
    )


def extreme_activations(tokens: int, inputs: int) -> list[np.ndarray]:
    rng = np.random.default_rng(inputs)
    return [
        np.full((tokens, inputs), 255, np.uint8),
        rng.choice([0, 255], (tokens, inputs)).astype(np.uint8),
        rng.integers(0, 256, (tokens, inputs)).astype(np.uint8),
    ]


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("scheme", [PRODUCTS, INT8, INT4], ids=lambda scheme: scheme.name)
def test_the_engine_gives_exact_sums_for_the_largest_activations(name: str, scheme: WeightScheme) -> None:
    for tokens, inputs, outputs in SHAPES:
        if scheme.group is not None and inputs % scheme.group:
            continue
        matrix = loaded_matrix(quantize_nearest(matrix_of(PATTERNS[name], outputs, inputs), scheme))
        for activations in extreme_activations(tokens, inputs):
            exact = activations.astype(np.int64) @ matrix.astype(np.int64)
            np.testing.assert_array_equal(multiplied(activations, matrix), exact)


@settings(deadline=None, max_examples=40)
@given(
    arrays(np.float32, (3, 32), elements=st.floats(-1e3, 1e3, width=32)),
    st.sampled_from([PRODUCTS, INT8, WeightScheme(8, 16), INT4, WeightScheme(4, 16)]),
    st.none() | arrays(np.float32, 32, elements=st.floats(0.015625, 64, width=32)),
)
def test_no_matrix_can_come_beyond_16_bits(
    weight: np.ndarray, scheme: WeightScheme, factors: np.ndarray | None
) -> None:
    matrix = loaded_matrix(quantize_nearest(weight, scheme), factors)
    assert (pair_sums(matrix.T) <= PAIR_LIMIT).all()
    assert np.abs(matrix.astype(int)).max(initial=0) <= 127
    assert 255 * PAIR_LIMIT < 2**15


def test_weights_that_keep_to_the_limit_are_taken_as_they_are() -> None:
    weight = quantize_nearest(RNG.standard_normal((8, 64)), PRODUCTS)
    np.testing.assert_array_equal(loaded_matrix(weight), weight.values.T)


def test_what_the_scheme_avoids_is_there_or_the_processor_has_no_such_kernel() -> None:
    """Full eight bits come out wrong on AVX2 alone, and right elsewhere: never anything between."""
    matrix = np.full((64, 4), 127, np.int8)
    activations = np.full((2, 64), 255, np.uint8)
    sums: Any = np.unique(multiplied(activations, matrix))
    assert sums.tolist() in ([255 * 127 * 64], [32767 * 32])


@pytest.mark.parametrize("group", [16, 32, 64, 128])
@pytest.mark.parametrize("bits", [4, 8])
def test_products_of_groups_are_exact_for_the_largest_activations(bits: int, group: int) -> None:
    """MatMulNBits, whose kernels must keep sums in range themselves: its weights have all their bits."""
    minimum, maximum = (-127, 127) if bits == 8 else (-8, 7)
    rng = np.random.default_rng(bits + group)
    outputs, inputs = 24, 512
    for quantized in (
        np.full((outputs, inputs), maximum),
        np.full((outputs, inputs), minimum),
        rng.choice([minimum, maximum], (outputs, inputs)),
    ):
        scale = np.ones((outputs, inputs // group), np.float32)
        scheme = WeightScheme(bits, group)
        weight = QuantizedWeight(quantized.astype(np.int8), scale, np.zeros(scale.shape, np.int8), scheme)
        for tokens in (1, 4, 9):
            # Whole numbers of which the largest is 127 are what activations are rounded to.
            for activations in (
                np.full((tokens, inputs), 127.0),
                rng.choice([-127.0, 127.0], (tokens, inputs)),
            ):
                found = grouped(activations.astype(np.float32), weight)
                np.testing.assert_array_equal(found, activations @ quantized.T)


def grouped(activations: np.ndarray, weight: QuantizedWeight) -> np.ndarray:
    return result_of(
        activations, lambda tape, initializers, x: grouped_product(tape, initializers, "layer", x, weight, None)
    )
