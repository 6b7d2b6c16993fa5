"""TFLite artifacts compute what the exportable model computes, at any length, with the quantized weights that they were
given."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter

from fastserve_converters.artifact import LAYER_SQNR
from fastserve_converters.formats import tflite
from fastserve_converters.formats.tflite.conversion import tracing_length
from fastserve_converters.formats.tflite.file import constant_of, operators, read_model, tensor_name, type_name
from fastserve_converters.formats.tflite.layers import layer_reader, layer_tensors
from fastserve_converters.formats.tflite.quantized_weights import stored_blocks
from fastserve_converters.layer_map import read_intermediates, read_modules
from fastserve_converters.models.encoder_signature import encoder_part
from fastserve_converters.models.exportable_model import ExportableModel
from fastserve_converters.precisions import Precision, WeightScheme
from fastserve_converters.quantization.layers import assignment, quantized_weights
from fastserve_converters.quantization.weights import quantize_nearest
from fastserve_converters.quantized_weight import QuantizedWeight
from fastserve_runtime.errors import EnvironmentFailure

LENGTH = 16
FROM_BASE = [p for p in tflite.PRECISIONS if p not in {"fp32", "mixed"}]
DENSE = "model.encoder.layer.1.output.dense"
QUERY = "model.encoder.layer.0.attention.self.query"
WORDS = "model.embeddings.word_embeddings"


def sample(tokens: int, padding: int = 0) -> dict[str, np.ndarray]:
    mask = np.ones((1, tokens + padding), np.float32)
    mask[:, tokens:] = 0
    return {"input_ids": np.arange(7, 7 + tokens + padding, dtype=np.int32)[None] * 5, "attention_mask": mask}


def run(path: Path, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    outputs = Interpreter(model_path=str(path), num_threads=1).get_signature_runner()(**inputs)
    (value,) = outputs.values()
    return value


def nearest(module: ExportableModel, precision_spec: Precision) -> dict[str, QuantizedWeight]:
    part = encoder_part(module, LENGTH)
    return quantized_weights(part, assignment(part, precision_spec))


def expected(module: ExportableModel, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    with torch.no_grad():
        return module(**{n: torch.from_numpy(v) for n, v in inputs.items()})[module.outputs[0].name].numpy()


def with_weights(module: ExportableModel, weights: Mapping[str, QuantizedWeight]) -> ExportableModel:
    changed = copy.deepcopy(module)
    for name, weight in weights.items():
        changed.get_submodule(name).weight.data = torch.from_numpy(weight.dequantized())
    return changed


def outputs_of(module: ExportableModel, layer: str, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    captured: list[np.ndarray] = []
    hook = module.get_submodule(layer).register_forward_hook(
        lambda _m, _i, out: captured.append(out.detach().numpy()[0])
    )
    expected(module, inputs)
    hook.remove()
    return captured[0]


@pytest.mark.parametrize("inputs", [sample(2), sample(9), sample(LENGTH), sample(5, padding=6)])
def test_one_graph_takes_any_number_of_tokens(bert, inputs: dict[str, np.ndarray]) -> None:
    module, folder, _ = bert
    assert np.abs(run(folder / "fp32" / tflite.MODEL, inputs) - expected(module, inputs)).max() < 1e-5


@pytest.mark.parametrize(
    "family", ["roberta", *(pytest.param(family, marks=pytest.mark.slow) for family in ("albert", "distilbert"))]
)
def test_every_family_is_exported_for_any_number_of_tokens(
    tiny, export, exportable_model_of, tmp_path: Path, family: str
) -> None:
    module = exportable_model_of(tiny(family, classify=True))
    before = expected(module, sample(9))
    export(module, "fp32", tmp_path / "fp32")
    for inputs in (sample(3), sample(LENGTH - 1), sample(4, padding=3)):
        assert np.abs(run(tmp_path / "fp32" / tflite.MODEL, inputs) - expected(module, inputs)).max() < 1e-5
    np.testing.assert_array_equal(expected(module, sample(9)), before, "the given module is left as it is")
    export(module, "int8-weight-only", tmp_path / "int8", tmp_path / "fp32")
    quantized = nearest(module, tflite.PRECISIONS["int8-weight-only"])
    fake_quant_reference = expected(with_weights(module, quantized), sample(9))
    assert np.abs(run(tmp_path / "int8" / tflite.MODEL, sample(9)) - fake_quant_reference).max() < 1e-5
    assert np.abs(before - fake_quant_reference).max() > 1e-4


@pytest.mark.parametrize("precision", FROM_BASE)
def test_every_precision_computes_its_own_quantized_weights_at_every_length(bert, precision: str) -> None:
    module, folder, _ = bert
    quantized = nearest(module, tflite.PRECISIONS[precision])
    # Weights are those given; what is left is how activations are rounded.
    tolerance = {"fp16": 2e-3, "int8-weight-only": 1e-5}.get(precision, 0.06)
    for inputs in (sample(3), sample(LENGTH)):
        fake_quant_reference = expected(with_weights(module, quantized), inputs)
        assert np.abs(run(folder / precision / tflite.MODEL, inputs) - fake_quant_reference).max() < tolerance


def test_the_quantized_weights_in_the_file_are_those_that_were_given(bert, export, tmp_path: Path) -> None:
    module, folder, _ = bert
    generator = np.random.default_rng(1)
    scheme = WeightScheme(8)
    given = QuantizedWeight(
        generator.integers(-127, 128, (32, 64)).astype(np.int8),
        generator.uniform(0.001, 0.01, (32, 1)).astype(np.float32),
        np.zeros((32, 1), np.int8),
        scheme,
    )
    export(module, "mixed", tmp_path / "mixed", folder / "fp32", {DENSE: given})
    model = read_model(tmp_path / "mixed" / tflite.MODEL)
    kinds = [type_name(g.tensors[o.inputs[1]]) for g, o, name in operators(model) if name == "FULLY_CONNECTED"]
    assert sorted(kinds) == sorted(["INT8", *["FLOAT32"] * (len(kinds) - 1)]), "layers that are absent stay in float"
    (tensor,) = [t for g in model.subgraphs for t in g.tensors if type_name(t) == "INT8"]
    values = constant_of(model, tensor)
    assert values is not None
    np.testing.assert_array_equal(values.reshape(32, 64), given.values)
    np.testing.assert_array_equal(tensor.quantization.scale, given.scale[:, 0])
    inputs = sample(LENGTH)
    fake_quant_reference = expected(with_weights(module, {DENSE: given}), inputs)
    assert np.abs(run(tmp_path / "mixed" / tflite.MODEL, inputs) - fake_quant_reference).max() < 0.02


def test_blocks_of_a_row_have_their_own_scales(bert, export, tmp_path: Path) -> None:
    module, folder, _ = bert
    linear, table = WeightScheme(4, 32, scale="bfloat16"), WeightScheme(4, 16, scale="float16")
    weights = {
        DENSE: quantize_nearest(module.get_submodule(DENSE).weight.detach().numpy(), linear),
        WORDS: quantize_nearest(module.get_submodule(WORDS).weight.detach().numpy(), table),
    }
    assert weights[DENSE].scale.shape[1] == weights[WORDS].scale.shape[1] == 2
    export(module, "mixed", tmp_path / "mixed", folder / "fp32", weights)
    path = tmp_path / "mixed" / tflite.MODEL
    names = layer_tensors(path)
    actual = layer_reader(path, names)(sample(LENGTH))
    rows = weights[WORDS].dequantized()[sample(LENGTH)["input_ids"][0]]
    np.testing.assert_allclose(actual[WORDS], rows, rtol=1e-6)
    original, fake_quant_reference = (
        outputs_of(m, DENSE, sample(LENGTH))
        for m in (with_weights(module, {WORDS: weights[WORDS]}), with_weights(module, weights))
    )
    # The input is rounded to 8 bits for each token, which is far less than 4 bits do to the weights.
    assert (
        np.square(actual[DENSE] - fake_quant_reference).mean() < 0.1 * np.square(original - fake_quant_reference).mean()
    )


def test_scales_of_blocks_are_those_of_the_scheme() -> None:
    weight = np.random.default_rng(0).normal(size=(8, 64)).astype(np.float32)
    for kind in ("bfloat16", "float16"):
        made = quantize_nearest(weight, WeightScheme(4, 32, scale=kind))
        values, scale = stored_blocks(made)
        np.testing.assert_array_equal(scale.astype(np.float32), made.scale)
        np.testing.assert_array_equal(values, made.values)
    folded = replace(made, scale=made.scale * np.float32(0.17), scheme=WeightScheme(4, 32, scale="bfloat16"))
    stored = stored_blocks(folded)[1].astype(np.float32)
    assert not np.any(stored.view(np.uint32) & 0xFFFF), "XNNPACK would round it itself"
    assert np.abs(stored / folded.scale - 1).max() < 2**-8


def test_a_block_of_zeros_can_be_opened_and_computed(bert, export, tmp_path: Path) -> None:
    module, _, _ = bert
    changed = copy.deepcopy(module)
    weight = changed.get_submodule(DENSE).weight.data
    weight[3, :32], weight[5, :32] = 0.0, weight[5, :32] * 1e-5
    export(changed, "fp32", tmp_path / "fp32")
    given = {DENSE: quantize_nearest(weight.numpy(), WeightScheme(4, 32, scale="bfloat16"))}
    export(changed, "mixed", tmp_path / "mixed", tmp_path / "fp32", given)
    path = tmp_path / "mixed" / tflite.MODEL
    actual = layer_reader(path, {DENSE: layer_tensors(path)[DENSE]})(sample(LENGTH))[DENSE]
    fake_quant_reference = outputs_of(with_weights(changed, given), DENSE, sample(LENGTH))
    assert np.abs(actual - fake_quant_reference).max() < 0.05 * np.abs(fake_quant_reference).max()


def test_a_zero_point_is_refused_since_the_kernels_pass_over_it(bert, export, tmp_path: Path) -> None:
    module, folder, _ = bert
    weight = module.get_submodule(DENSE).weight.detach().numpy()
    given = {DENSE: quantize_nearest(weight + 0.3, WeightScheme(4, 32, symmetric=False))}
    with pytest.raises(EnvironmentFailure, match="take no zero points"):
        export(module, "mixed", tmp_path / "mixed", folder / "fp32", given)


def test_a_layer_whose_weights_are_not_in_the_graph_is_named(bert, export, tmp_path: Path) -> None:
    module, folder, _ = bert
    other = with_weights(module, {QUERY: quantize_nearest(np.ones((32, 32), np.float32), WeightScheme(8))})
    given = {QUERY: quantize_nearest(np.ones((32, 32), np.float32), WeightScheme(8))}
    with pytest.raises(EnvironmentFailure, match=f"layer '{QUERY}' cannot be found"):
        export(other, "mixed", tmp_path / "mixed", folder / "fp32", given)


def test_an_artifact_is_described_with_its_open_length(bert) -> None:
    _, folder, made = bert
    fp32, int8 = made["fp32"], made["int8-dynamic"]
    details = Interpreter(model_path=str(folder / "fp32" / tflite.MODEL)).get_input_details()
    assert [list(d["shape_signature"]) for d in details] == [[1, -1], [1, -1]]
    assert fp32.graphs["main"].signature.inputs[0].dims[1].max == LENGTH  # type: ignore[union-attr]
    assert fp32.operators == int8.operators
    counts = {o.name: o.count for o in made["int8-weight-only"].operators}
    assert counts["DEQUANTIZE"] == counts["FULLY_CONNECTED"] == 12
    sizes = {p: (folder / p / tflite.MODEL).stat().st_size for p in made}
    assert sizes["int4"] < sizes["int8-dynamic"] < sizes["fp16"] < sizes["fp32"]


def test_the_layer_map_names_modules_of_the_model_and_their_own_outputs(bert) -> None:
    module, folder, made = bert
    for precision in made:
        layers = read_modules(folder / precision)
        assert set(layers) <= {name for name, _ in module.named_modules()}
        for attribute in ("query", "key", "value"):
            name = f"model.encoder.layer.1.attention.self.{attribute}"
            assert f"layer/{name};" in layers[name]


def test_intermediates_of_every_precision_name_tensors_that_the_file_has_once(bert) -> None:
    _, folder, made = bert
    for precision in made:
        model = read_model(folder / precision / tflite.MODEL)
        names = [tensor_name(t) for graph in model.subgraphs for t in graph.tensors]
        intermediates = {
            (t.program_node.module, t.program_node.operator, t.program_node.call): t
            for t in read_intermediates(folder / precision)
        }
        assert all(names.count(intermediate.tensor) == 1 for intermediate in intermediates.values())
        layer = "model.encoder.layer.1"
        assert intermediates[f"{layer}.attention.self.query", "linear", 0].factor == 0.25
        assert intermediates[f"{layer}.attention.self.key", "linear", 0].factor == 1.0
        assert intermediates[f"{layer}.attention.self", "softmax", 0].exported == "SOFTMAX"
        assert intermediates[f"{layer}.intermediate.intermediate_act_fn", "gelu", 0].exported == "GELU"
        assert intermediates[f"{layer}.output.LayerNorm", "layer_norm", 0].exported in {"MUL", "ADD"}


def test_outputs_of_layers_are_those_of_the_torch_layers(bert) -> None:
    module, folder, _ = bert
    path = folder / "fp32" / tflite.MODEL
    names = layer_tensors(path)
    assert {DENSE, QUERY, WORDS} <= set(names)
    result = layer_reader(path, names, {QUERY: 0.25})(sample(5))
    for layer in (DENSE, WORDS, QUERY):
        np.testing.assert_allclose(result[layer], outputs_of(module, layer, sample(5)), atol=1e-4)
    true = outputs_of(module, DENSE, sample(5))
    quantized = folder / "int8-dynamic" / tflite.MODEL
    rounded = layer_reader(quantized, names)(sample(5))
    assert 0 < np.abs(rounded[DENSE] - true).max() < 0.1 * np.abs(true).max()
    static = folder / "int8-static" / tflite.MODEL
    real = layer_reader(static, layer_tensors(static))(sample(5))
    assert 0 < np.abs(real[DENSE] - true).max() < 0.2 * np.abs(true).max(), "integers are made reals"


def test_the_loss_of_every_layer_is_recorded(bert) -> None:
    _, folder, made = bert
    ratios = {p: json.loads((folder / p / LAYER_SQNR).read_text())["sqnr_db"] for p in made if p != "fp32"}
    assert len(ratios["int8-dynamic"]) == 13
    assert all(r is None or r > 15 for r in ratios["int8-dynamic"].values())
    # A factor left on the query's output would show as no signal at all.
    assert all(r is None or r > 50 for r in ratios["fp16"].values())
    assert ratios["int4"][DENSE] < ratios["int8-dynamic"][DENSE]


def test_blocks_need_a_release_that_computes_them_right(bert) -> None:
    _, _, made = bert
    assert made["int8-dynamic"].requires.min_version == "1.0"
    assert made["int4"].requires.min_version == "2.1.0"


def test_the_traced_length_is_a_prime_that_no_layer_is_wide() -> None:
    assert tracing_length(torch.nn.Linear(32, 64), 16) == 13
    assert tracing_length(torch.nn.Linear(26, 11), 16) == 7
    with pytest.raises(EnvironmentFailure, match="No length up to 4"):
        tracing_length(torch.nn.Linear(6, 2), 4)
