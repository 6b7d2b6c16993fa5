"""Groups of quantized weights are multiplied and looked up as they say, minima and all."""

from __future__ import annotations

import gguf
import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from onnx_ir import tape as tapes

from fastserve_converters.checkpoints.gguf.model import load_gguf_model
from fastserve_converters.formats.onnx.decoder_graph import write_graph
from fastserve_converters.formats.onnx.grouped import grouped_product, grouped_rows
from fastserve_converters.formats.onnx.quantized_weights import Initializers
from fastserve_converters.models.decoder.form import whole_logits
from fastserve_converters.models.decoder.gguf_weights import gguf_weights
from fastserve_converters.models.decoder.reading import read_decoder
from fastserve_converters.precisions import WeightScheme
from fastserve_converters.quantization.weights import quantize_nearest
from fastserve_converters.quantized_weight import QuantizedWeight
from fastserve_runtime.generation.shared_cache import SharedCacheDecoder
from fastserve_runtime.loading import open_model
from gguf_writing import ARCHITECTURES, Kind, gguf_model, write_gguf
from random_decoders import random_tokens

ROWS, COLUMNS = 48, 96
KINDS = [Kind.Q4_0, Kind.Q4_1, Kind.Q8_0]
GENERATOR = np.random.default_rng(0)


def quantized_matrix(kind, seed: int = 0) -> QuantizedWeight:
    """Return a matrix on a GGUF type's grid, some scales of which are negative."""
    generator = np.random.default_rng(seed)
    bits, groups = (8 if kind == Kind.Q8_0 else 4), COLUMNS // 32
    scheme = WeightScheme(bits, 32, scale="float16", minimum=kind == Kind.Q4_1)
    halves = [generator.normal(size=(ROWS, groups)).astype(np.float16).astype(np.float32) for _ in range(2)]
    return QuantizedWeight(
        values=generator.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (ROWS, COLUMNS)).astype(np.int8),
        scale=halves[0],
        zero_point=np.full((ROWS, groups), -8 if scheme.minimum else 0, np.int8),
        scheme=scheme,
        minimum=halves[1] if scheme.minimum else None,
    )


def run(graph: ir.Graph, tape, outputs, inputs, *, exact: bool = True):
    """Run what was written, with activations in fp32 if `exact`; return the outputs and the file's size."""
    graph.extend(tape.nodes)
    graph.outputs.extend(outputs)
    for index, output in enumerate(outputs):
        output.name = f"out_{index}"
        output.type = ir.TensorType(ir.DataType.FLOAT)
    for node in graph:
        if exact and node.op_type == "MatMulNBits":
            node.attributes["accuracy_level"] = ir.AttrInt64("accuracy_level", 1)
    content = ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, inputs), len(content)


def new_graph(kind, shape):
    given = ir.Input("x", ir.Shape(shape), ir.TensorType(kind))
    graph = ir.Graph([given], [], nodes=[], name="test", opset_imports={"": 21, "com.microsoft": 1})
    return given, graph, tapes.Tape(), Initializers(graph)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", [1, 5])
def test_products_are_those_of_the_reals(kind, tokens) -> None:
    weights = [quantized_matrix(kind, seed) for seed in range(2)]
    x, graph, tape, constants = new_graph(ir.DataType.FLOAT, [1, tokens, COLUMNS])
    bias = GENERATOR.normal(size=ROWS).astype(np.float32)
    outputs = [
        grouped_product(tape, constants, f"layer_{i}", x, w, constants.add("bias", bias)) for i, w in enumerate(weights)
    ]
    given = GENERATOR.normal(size=(1, tokens, COLUMNS)).astype(np.float32)
    found, size = run(graph, tape, outputs, {"x": given})
    for weight, actual in zip(weights, found, strict=True):
        np.testing.assert_allclose(actual, given @ weight.dequantized().T + bias, rtol=2e-5, atol=2e-3)
    # As many bytes as the GGUF's blocks have, and the graph.
    block, bytes_of_block = gguf.GGML_QUANT_SIZES[kind]
    assert size < 2 * ROWS * COLUMNS // block * bytes_of_block + 2_500
    means = [node for node in graph if node.op_type == "AveragePool"]
    assert len(means) == (1 if kind == Kind.Q4_1 else 0)  # layers with one input share them


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_the_reals(kind) -> None:
    weight = quantized_matrix(kind)
    ids, graph, tape, constants = new_graph(ir.DataType.INT64, [1, 7])
    rows = grouped_rows(tape, constants, "table", ids, weight)
    given = GENERATOR.integers(0, ROWS, (1, 7))
    (found,), _ = run(graph, tape, [rows], {"x": given})
    tolerance = {"rtol": 0, "atol": 4e-6} if kind == Kind.Q4_1 else {"rtol": 0, "atol": 0}
    np.testing.assert_allclose(found, weight.dequantized()[given], **tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_serves_as_embedding_and_head(kind) -> None:
    weight = quantized_matrix(kind)
    ids, graph, tape, constants = new_graph(ir.DataType.INT64, [1, 3])
    rows = grouped_rows(tape, constants, "table", ids, weight)
    scores = grouped_product(tape, constants, "table", rows, weight, None, node_name="head")
    given = np.array([[0, 5, 47]])
    (found, actual), size = run(graph, tape, [rows, scores], {"x": given})
    np.testing.assert_allclose(actual, found @ weight.dequantized().T, rtol=1e-4, atol=1e-2)
    block, bytes_of_block = gguf.GGML_QUANT_SIZES[kind]
    assert size < ROWS * COLUMNS // block * bytes_of_block + 2_500


def test_scales_that_are_no_halves_keep_their_bits() -> None:
    weight = quantize_nearest(GENERATOR.normal(size=(ROWS, COLUMNS)).astype(np.float32), WeightScheme(4, 32))
    x, graph, tape, constants = new_graph(ir.DataType.FLOAT, [1, 2, COLUMNS])
    given = GENERATOR.normal(size=(1, 2, COLUMNS)).astype(np.float32)
    (found,), _ = run(graph, tape, [grouped_product(tape, constants, "layer", x, weight, None)], {"x": given})
    np.testing.assert_allclose(found, given @ weight.dequantized().T, atol=1e-4)


@pytest.mark.parametrize("name", ["llama-tied-biased", "gpt-2"])
def test_a_decoder_of_a_gguf_file_scores_as_the_file_does(name, tmp_path) -> None:
    file = write_gguf(tmp_path / "model.gguf", gguf_model(name), ARCHITECTURES[name], lambda _: Kind.Q4_1)
    form = read_decoder(load_gguf_model(file), 48)
    model = write_graph(form, gguf_weights(file, form))
    for node in model.graph:
        if node.op_type == "MatMulNBits":
            node.attributes["accuracy_level"] = ir.AttrInt64("accuracy_level", 1)
    ir.save(model, tmp_path / "model.onnx")
    tokens = random_tokens(20)
    expected = whole_logits(form, tokens).detach().numpy()
    with open_model(tmp_path / "model.onnx") as session:
        decoder = SharedCacheDecoder(session, context=48)
        for chunk in tokens[0].split([12, 1, 7]):
            scores = decoder.feed(chunk.tolist())
            np.testing.assert_allclose(scores, expected[decoder.position - 1], atol=1e-4)
