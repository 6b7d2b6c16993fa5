"""Static ONNX artifacts: operators that 8 bits spoil are left in float and named; the fake-quant reference is what the
file says."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx as onnx_library
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from fastserve_converters.artifact import KEPT_IN_FLOAT
from fastserve_converters.checkpoints.model_loading import load_model
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.formats import ExportJob, onnx
from fastserve_converters.formats.onnx.files import MODEL
from fastserve_converters.formats.onnx.keeping_in_float import MIN_ACCURACY, accuracy
from fastserve_converters.formats.onnx.layers import quantize_embeddings
from fastserve_converters.formats.onnx.products import PAIR_LIMIT
from fastserve_converters.formats.onnx.quantizers import fold_weights, limit_pairs
from fastserve_converters.models.encoder_signature import encoder_part
from fastserve_converters.models.exportable_model import build_exportable_model
from fastserve_converters.models.model import TracedPart
from fastserve_converters.models.samples import count, first
from fastserve_converters.precisions import INT8
from fastserve_converters.quantization.fake_quant_reference import comparison, read_outputs
from fastserve_converters.quantization.weights import pair_sums, quantize_nearest

NAME = "sentence_embedding"
FULL = 16
SHARP = "model.encoder.layer.1.attention.self"
SHARPNESS = 40.0
"""By which queries and keys are multiplied, so that attention hangs on small differences of large scores."""


def samples(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    ids = rng.integers(5, 800, (count, FULL)).astype(np.int32)
    mask = (np.arange(FULL)[None] < rng.integers(6, FULL + 1, count)[:, None]).astype(np.float32)
    return {"input_ids": ids, "attention_mask": mask}


def tiny_part(checkpoint_folder: Path, *, is_sharp: bool) -> TracedPart:
    """Return a tiny encoder; a sharp one's last attention turns the rounding of what comes before into other tokens."""
    checkpoint = read_checkpoint(checkpoint_folder, task="auto", allow_pickle=False, trust_remote_code=False)
    module = build_exportable_model(load_model(checkpoint, trust_remote_code=False), checkpoint, FULL)
    if is_sharp:
        with torch.no_grad():
            for part in ("query", "key"):
                module.get_submodule(f"{SHARP}.{part}").weight.mul_(SHARPNESS)
    return encoder_part(module, FULL)


def export(part: TracedPart, precision: str, out: Path, base: Path | None = None) -> Path:
    out.mkdir()
    onnx.export(
        ExportJob(
            part=part.fixed,
            precision=precision,
            precision_spec=onnx.PRECISIONS[precision],
            weights={},
            calibration={} if base is None else samples(48),
            samples=samples(8, seed=1),
            base=base,
            out=out,
        )
    )
    return out


def run(model: Path | bytes, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    content = model if isinstance(model, bytes) else model.read_bytes()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    rows = range(len(inputs["input_ids"]))
    return np.concatenate([session.run(None, {n: v[i : i + 1] for n, v in inputs.items()})[0] for i in rows])


def rounded_activations(folder: Path) -> list[str]:
    """Return the tensors that are rounded in each call."""
    model = onnx_library.load(str(folder / MODEL))
    constants = {i.name for i in model.graph.initializer}
    return [n.input[0] for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] not in constants]


@pytest.fixture(scope="module")
def static(tiny: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool, str], Path]:
    """Exports a tiny encoder, sharp or not; its base is in `fp32` beside."""
    made: dict[tuple[bool, str], Path] = {}

    def make(is_sharp: bool, precision: str) -> Path:
        if (is_sharp, precision) not in made:
            part = tiny_part(tiny("bert", sentence=True), is_sharp=is_sharp)
            folder = tmp_path_factory.mktemp("static")
            base = export(part, "fp32", folder / "fp32")
            made[is_sharp, precision] = export(part, precision, folder / "quantized", base)
        return made[is_sharp, precision]

    return make


def test_operators_that_8_bits_spoil_are_left_in_float_and_named(static: Callable[[bool, str], Path]) -> None:
    folder = static(True, "int8-static")
    found = json.loads((folder / KEPT_IN_FLOAT).read_text())
    assert found["quantized_accuracy"] < MIN_ACCURACY <= found["accuracy"]
    assert 0 < len(found["kept_in_float"]) < 6
    nodes = {n.name: n for n in onnx_library.load(str(folder / MODEL)).graph.node}
    layers = [name for name in nodes if name.endswith((".dense", ".query", ".key", ".value"))]
    in_float = {name for name in layers if not any(i.startswith("dq_") for i in nodes[name].input)}
    assert in_float == {name for name in found["kept_in_float"] if name in layers}
    assert in_float < set(layers)
    unseen = samples(32, seed=2)
    shipped, original = (run(f / MODEL, unseen) for f in (folder, folder.parent / "fp32"))
    assert accuracy({NAME: original}, {NAME: shipped}) > found["quantized_accuracy"]


def test_a_model_that_is_near_enough_keeps_all_operators_quantized(static: Callable[[bool, str], Path]) -> None:
    folder = static(False, "int8-static")
    found = json.loads((folder / KEPT_IN_FLOAT).read_text())
    assert found["kept_in_float"] == []
    assert found["accuracy"] == found["quantized_accuracy"] >= MIN_ACCURACY
    assert found["samples"] == 12
    assert len(rounded_activations(folder)) == 12


def test_weights_are_stored_as_integers(static: Callable[[bool, str], Path]) -> None:
    model = onnx_library.load(str(static(False, "int8-static") / MODEL))
    stored = {i.name: i for i in model.graph.initializer}
    rounded = [n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] in stored]
    assert rounded == []
    matrices = [i for i in stored.values() if len(i.dims) == 2 and i.data_type == onnx_library.TensorProto.INT8]
    assert len(matrices) == 12


def test_no_product_of_weights_can_come_beyond_16_bits(static: Callable[[bool, str], Path]) -> None:
    for is_sharp in (False, True):
        graph = onnx_library.load(str(static(is_sharp, "int8-static") / MODEL)).graph
        matrices = [onnx_library.numpy_helper.to_array(i) for i in graph.initializer]
        stored = [m for m in matrices if m.dtype == np.int8 and m.ndim == 2]
        assert len(stored) > 6
        assert max(float(pair_sums(m.T).max()) for m in stored) == PAIR_LIMIT


@pytest.mark.parametrize("scale", [np.full(24, 0.01, np.float32), np.array(0.01, np.float32)])
def test_scales_of_weights_are_enlarged_where_pairs_ask_for_it(scale: np.ndarray) -> None:
    weight = np.zeros((6, 24), np.float32)
    weight[:2, 3] = 1.27
    weight[1:3, 5] = 1.27
    weight[:2, 7] = (1.27, -1.27)
    model = quantized_weight(weight, scale)
    limit_pairs(model)
    fold_weights(model)
    (dequantize,) = model.graph
    quantized, found = (value.const_value.numpy() for value in dequantize.inputs[:2])
    assert pair_sums(quantized.T).max() == PAIR_LIMIT
    assert quantized[0, 3] == 64
    if scale.ndim:
        assert quantized[:3, 5].tolist() == [0, 127, 127], "other pairs are never added"
        assert quantized[:2, 7].tolist() == [127, -127]
        assert (found[[0, 5, 7]] == scale[0]).all()
    else:
        assert found.shape == ()


def quantized_weight(weight: np.ndarray, scale: np.ndarray) -> ir.Model:
    tensor, made = onnx_library.TensorProto, onnx_library.helper.make_node
    constants = {"weight": weight, "scale": scale, "zero": np.zeros(scale.shape, np.int8)}
    graph = onnx_library.helper.make_graph(
        [
            made("QuantizeLinear", ["weight", "scale", "zero"], ["integers"], axis=1),
            made("DequantizeLinear", ["integers", "scale", "zero"], ["reals"], axis=1),
        ],
        "graph",
        [],
        [onnx_library.helper.make_tensor_value_info("reals", tensor.FLOAT, weight.shape)],
        [onnx_library.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [onnx_library.helper.make_opsetid("", 20)]
    return ir.from_proto(onnx_library.helper.make_model(graph, opset_imports=opsets, ir_version=9))


@pytest.mark.parametrize("precision", ["int8-static", "a16w8"])
def test_the_fake_quant_reference_is_the_file_as_written_and_tells_another_scale(
    precision: str, static: Callable[[bool, str], Path]
) -> None:
    folder = static(False, precision)
    recorded = read_outputs(folder)
    assert recorded is not None
    expected, executor = recorded
    few = first(samples(8, seed=1), count(expected))
    near = comparison(expected, {NAME: run(folder / MODEL, few)}, executor)
    assert near["sqnr_db"] is None or near["sqnr_db"] > 20
    altered = onnx_library.load(str(folder / MODEL))
    producers = {name: node for node in altered.graph.node for name in node.output}
    (layer,) = (n for n in altered.graph.node if n.name == "model.encoder.layer.1.output.dense")
    scale = producers[layer.input[1]].input[1]
    for constant in altered.graph.initializer:
        if constant.name == scale:
            values = onnx_library.numpy_helper.to_array(constant) * 8
            constant.CopyFrom(onnx_library.numpy_helper.from_array(values.astype(np.float32), scale))
    far = comparison(expected, {NAME: run(altered.SerializeToString(), few)}, executor)
    assert far["sqnr_db"] < 10


def test_int8_kernels_of_the_runtime_are_not_those_of_the_fake_quant_reference(
    static: Callable[[bool, str], Path], tmp_path: Path
) -> None:
    """Otherwise the two would agree whatever they computed."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / MODEL)
    file = static(False, "int8-static") / MODEL
    onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    nodes = onnx_library.load(str(tmp_path / MODEL)).graph.node
    assert "MatMulIntegerToFloat" in {n.op_type for n in nodes}
    assert "Gemm" not in {n.op_type for n in nodes}, "the bias is joined to a product in float"


def test_one_scale_dequantizes_a_layers_weights_and_the_product_gets_what_is_left(
    static: Callable[[bool, str], Path],
) -> None:
    graph = onnx_library.load(str(static(False, "int8-static") / MODEL)).graph
    constants = {i.name: onnx_library.numpy_helper.to_array(i) for i in graph.initializer}
    dequantized = {n.output[0]: n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in constants}
    assert len(dequantized) == 12
    assert {constants[n.input[1]].shape for n in dequantized.values()} == {()}
    layers = [n for n in graph.node if n.op_type == "MatMul" and n.input[1] in dequantized]
    assert len(layers) == 12
    for layer in layers:
        (scaling,) = (n for n in graph.node if layer.output[0] in n.input)
        assert scaling.op_type == "Mul"
        share = constants[scaling.input[1]]
        assert share.shape == (constants[dequantized[layer.input[1]].input[0]].shape[1],)
        assert share.max() == 1
        assert share.min() > 0


def test_norms_beside_16_bit_activations_have_16_bit_weights(static: Callable[[bool, str], Path]) -> None:
    graph = onnx_library.load(str(static(False, "a16w8") / MODEL)).graph
    constants = {i.name: i.data_type for i in graph.initializer}
    stored = {n.output[0]: constants[n.input[0]] for n in graph.node if n.input[0] in constants}
    norms = [n for n in graph.node if n.op_type == "LayerNormalization"]
    assert len(norms) == 5
    assert {stored[n.input[1]] for n in norms} == {onnx_library.TensorProto.INT16}
    layers = [n for n in graph.node if n.op_type == "MatMul" and n.input[1] in stored]
    assert {stored[n.input[1]] for n in layers} == {onnx_library.TensorProto.INT8}


def test_rows_of_an_embedding_are_gathered_between_quantizers_that_the_runtime_takes_away(tmp_path: Path) -> None:
    table = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    weight = quantize_nearest(table, INT8)
    tensor, info = onnx_library.TensorProto, onnx_library.helper.make_tensor_value_info
    graph = onnx_library.helper.make_graph(
        [onnx_library.helper.make_node("Gather", ["table", "ids"], ["rows"], name="words")],
        "graph",
        [info("ids", tensor.INT32, [1, 6])],
        [info("rows", tensor.FLOAT, [1, 6, 8])],
        [onnx_library.numpy_helper.from_array(table, "table")],
    )
    opsets = [onnx_library.helper.make_opsetid("", 20)]
    model = ir.from_proto(onnx_library.helper.make_model(graph, opset_imports=opsets, ir_version=9))
    assert quantize_embeddings(model, {"words": weight}, has_quantizers=True) == 1
    content = ir.to_proto(model).SerializeToString()
    assert [n.op_type for n in model.graph].count("QuantizeLinear") == 1
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / MODEL)
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    ids = np.array([[0, 49, 7, 7, 1, 30]], np.int32)
    np.testing.assert_array_equal(session.run(None, {"ids": ids})[0], weight.dequantized()[ids])
    fused = onnx_library.load(str(tmp_path / MODEL)).graph
    gathered = {n.input[0] for n in fused.node if n.op_type == "Gather"}
    assert {i.data_type for i in fused.initializer if i.name in gathered} == {tensor.UINT8, tensor.FLOAT}
    assert gathered <= {i.name for i in fused.initializer}, "the table is spelled out in each call"
    assert "QuantizeLinear" not in {n.op_type for n in fused.node}
