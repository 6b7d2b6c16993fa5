"""Finding the wrong layer of a shipped file: faults that are put into real files, and honest ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastserve
from fastserve.bisecting import Bisector
from fastserve_runtime.bundle.canonical_json import canonical_json
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.errors import BundleError, UsageError
from faulty_bundles import (
    Change,
    change_constant,
    faulty_copy,
    in_onnx,
    in_place,
    in_tflite,
    onnx_node,
    tflite_operator,
)

LAYER = "model.encoder.layer.1"
SAMPLES = 6


@pytest.fixture(scope="module")
def bisector(tiny_bert: Path, cache_dir: Path) -> Iterator[Bisector]:
    with Bisector(str(tiny_bert), cache_dir=cache_dir) as made:
        yield made


@pytest.fixture(scope="module")
def every_bundle(tiny_bert: Path, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TFLite and ExecuTorch, and ONNX with scales set beforehand."""
    location = tmp_path_factory.mktemp("bundles") / "every.fsb"
    fastserve.export(
        tiny_bert,
        location,
        formats=["onnx", "tflite", "executorch"],
        precisions=["fp32", "int8-dynamic", "int8-static"],
        sequence_length=32,
        keep="all",
        cache_dir=cache_dir,
    )
    return location


def transposed_weight(model: Any) -> None:
    change_constant(model, onnx_node(model, f"{LAYER}.attention.output.dense").input[1], np.transpose)


def corrupted_channel(model: Any) -> None:
    name = onnx_node(model, f"{LAYER}.output.dense").input[1]

    def change(weight: np.ndarray) -> np.ndarray:
        weight[:, 5] = -weight[::-1, 5]
        return weight

    change_constant(model, name, change)


def wrong_epsilon(model: Any) -> None:
    node = onnx_node(model, f"{LAYER}.output.LayerNorm")
    next(a for a in node.attribute if a.name == "epsilon").f = 0.1


def relu_for_gelu(model: Any) -> None:
    node = next(n for n in reversed(model.graph.node) if n.op_type == "Gelu")
    node.op_type, node.domain = "Relu", ""
    del node.attribute[:]


def shifted_query(model: Any) -> None:
    node = onnx_node(model, " + ".join(f"{LAYER}.attention.self.{part}" for part in ("query", "key", "value")))

    def change(weight: np.ndarray) -> np.ndarray:
        third = weight.shape[1] // 3
        weight[:, :third] = np.roll(weight[:, :third], 7, axis=1)
        return weight

    change_constant(model, node.input[1], change)


FP32, INT8 = "onnx-fp32", "onnx-int8-dynamic"
ONNX_FAULTS = [
    pytest.param(
        FP32, transposed_weight, f"{LAYER}.attention.output.dense", id="transposed weight", marks=pytest.mark.slow
    ),
    pytest.param(FP32, wrong_epsilon, f"{LAYER}.output.LayerNorm", id="epsilon of a norm", marks=pytest.mark.slow),
    pytest.param(FP32, relu_for_gelu, f"{LAYER}.intermediate.intermediate_act_fn", id="ReLU for GELU"),
    pytest.param(INT8, corrupted_channel, f"{LAYER}.output.dense", id="one channel of integers"),
    pytest.param(INT8, shifted_query, f"{LAYER}.attention.self.query", id="inside a fused attention"),
]


@pytest.mark.parametrize("variant", [FP32, INT8])
def test_an_honest_file_has_no_suspect(bisector: Bisector, tiny_bundle: Path, variant: str) -> None:
    found = bisector.bisect(tiny_bundle, variant=variant)
    assert found.agrees
    assert (found.variant, found.target, found.samples) == (variant, "onnx:cpu", 24)
    modules = {layer.module for layer in found.layers}
    assert {f"{LAYER}.attention.self.query", f"{LAYER}.output.LayerNorm", "head"} <= modules
    assert not found.unread
    assert min(layer.local_sqnr_db for layer in found.layers) > (100 if variant == FP32 else 30)


@pytest.mark.parametrize(("variant", "fault", "module"), ONNX_FAULTS)
def test_a_fault_in_an_onnx_file_is_found(
    bisector: Bisector, tiny_bundle: Path, tmp_path: Path, variant: str, fault: Callable[[Any], None], module: str
) -> None:
    bundle = faulty_copy(tiny_bundle, tmp_path / "faulty.fsb", variant, in_onnx(fault))
    found = bisector.bisect(bundle, variant=variant, samples=SAMPLES)
    assert not found.agrees
    first = found.suspects[0]
    assert first.module == module
    assert first.confirmed_alone
    assert first.tensor
    assert first.reason
    assert len(found.suspects) == 1, "what follows is led by the file's own values, and right"


def test_what_is_not_finite_is_blamed_where_it_begins(bisector: Bisector, tiny_bundle: Path, tmp_path: Path) -> None:
    def fault(model: Any) -> None:
        change_constant(model, onnx_node(model, f"{LAYER}.output.dense").input[1], lambda w: w * np.nan)

    bundle = faulty_copy(tiny_bundle, tmp_path / "nan.fsb", FP32, in_onnx(fault))
    found = bisector.bisect(bundle, variant=FP32, samples=SAMPLES)
    assert [s.module for s in found.suspects] == [f"{LAYER}.output.dense"]
    assert found.suspects[0].local_sqnr_db == -999


def test_another_model_is_refused_unless_it_is_wanted(
    tiny_bundle: Path, tmp_path: Path, cache_dir: Path, tiny_bert: Path
) -> None:
    from checkpoints import save_checkpoint

    other = save_checkpoint(tmp_path / "other", sentence=True, seed=7)
    with Bisector(str(other), cache_dir=cache_dir) as strict, pytest.raises(UsageError, match="other weights"):
        strict.bisect(tiny_bundle)
    with Bisector(str(other), cache_dir=cache_dir, any_weights=True) as lax:
        found = lax.bisect(tiny_bundle, variant=FP32, samples=2)
    assert found.suspects[0].module == "model.embeddings.word_embeddings"
    assert any("golden" in note for note in found.notes)


def test_what_does_not_fit_is_refused(bisector: Bisector, tiny_bundle: Path) -> None:
    with pytest.raises(UsageError, match="no variant 'onnx-int2'"):
        bisector.bisect(tiny_bundle, variant="onnx-int2")
    with pytest.raises(UsageError, match="no target 'onnx:gpu'"):
        bisector.bisect(tiny_bundle, target="onnx:gpu")
    with pytest.raises(UsageError, match="no variant for tflite:xnnpack"):
        bisector.bisect(tiny_bundle, target="tflite:xnnpack")
    with pytest.raises(UsageError, match="tflite:xnnpack does not take"):
        bisector.bisect(tiny_bundle, variant=FP32, target="tflite:xnnpack")
    with pytest.raises(UsageError, match="0 samples"):
        bisector.bisect(tiny_bundle, samples=0)


def test_a_bundle_without_layer_maps_is_refused(bisector: Bisector, tiny_bundle: Path, tmp_path: Path) -> None:
    location = faulty_copy(tiny_bundle, tmp_path / "old.fsb", FP32, lambda content: content)
    document = json.loads((location / "manifest.json").read_bytes())
    document["files"] = {p: f for p, f in document["files"].items() if f["role"] != "layer-map"}
    (location / "manifest.json").write_bytes(canonical_json(document))
    with pytest.raises(BundleError, match="no layer map"):
        bisector.bisect(location, variant=FP32)


def test_the_layer_map_ships_and_a_device_does_not_need_it(tiny_bundle: Path) -> None:
    with open_bundle(tiny_bundle) as bundle:
        bundle.check_integrity()
        for variant in bundle.manifest.variants:
            entry = bundle.entry(f"layer_maps/{variant.id}.json")
            assert entry.role == "layer-map"
            assert entry not in bundle.manifest.shipped_files(variant)


@pytest.mark.slow
def test_a_zip_file_is_searched_too(bisector: Bisector, tiny_bundle: Path, tmp_path: Path) -> None:
    from fastserve.bundles.bundle_writer import write_zip

    location = tmp_path / "tiny.fsb.zip"
    write_zip(location, tiny_bundle)
    assert bisector.bisect(location, variant=FP32, samples=2).agrees


def tflite_wrong_zero_point(model: Any) -> None:
    (graph,) = model.subgraphs
    operator = tflite_operator(model, f"layer/{LAYER}.intermediate.dense;")
    tensor = graph.tensors[operator.outputs[0]]
    assert tensor.quantization.zeroPoint is not None
    tensor.quantization.zeroPoint = [int(tensor.quantization.zeroPoint[0]) + 40]


def tflite_transposed_weight(model: Any) -> None:
    (graph,) = model.subgraphs
    operator = tflite_operator(model, f"layer/{LAYER}.attention.self.value;")
    weight = graph.tensors[operator.inputs[1]]
    buffer = model.buffers[weight.buffer]
    size = len(bytes(buffer.data)) // int(np.prod(weight.shape))
    values = np.frombuffer(bytes(buffer.data), np.int8 if size == 1 else np.float32).reshape(weight.shape)
    buffer.data = np.frombuffer(np.ascontiguousarray(values.T).tobytes(), np.uint8)


def onnx_wrong_zero_point(model: Any) -> None:
    """Integers of a layer's weights are read about another middle."""
    product = next(n for n in model.graph.node if n.name == f"{LAYER}.intermediate.dense")
    dequantize = onnx_node(model, product.input[1])
    change_constant(model, dequantize.input[0], lambda w: np.clip(w.astype(int) + 20, -127, 127))


@pytest.mark.slow
@pytest.mark.parametrize(
    "variant",
    [
        "onnx-int8-static",
        "tflite-fp32",
        "tflite-int8-dynamic",
        "tflite-int8-static",
        "executorch-fp32",
        "executorch-int8-static",
    ],
)
def test_honest_files_of_every_format_have_no_suspect(bisector: Bisector, every_bundle: Path, variant: str) -> None:
    found = bisector.bisect(every_bundle, variant=variant, samples=14)
    assert found.agrees, (found.suspects, found.wrong_outputs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "change", "module"),
    [
        pytest.param("tflite-fp32", in_tflite(tflite_transposed_weight), f"{LAYER}.attention.self.value", id="fp32"),
        pytest.param(
            "tflite-int8-dynamic", in_tflite(tflite_transposed_weight), f"{LAYER}.attention.self.value", id="dynamic"
        ),
        pytest.param(
            "tflite-int8-static", in_tflite(tflite_wrong_zero_point), f"{LAYER}.intermediate.dense", id="zero point"
        ),
        pytest.param(
            "onnx-int8-static", in_onnx(onnx_wrong_zero_point), f"{LAYER}.intermediate.dense", id="static onnx"
        ),
    ],
)
def test_faults_in_other_files_are_found(
    bisector: Bisector, every_bundle: Path, tmp_path: Path, variant: str, change: Change, module: str
) -> None:
    bundle = faulty_copy(every_bundle, tmp_path / "faulty.fsb", variant, change)
    found = bisector.bisect(bundle, variant=variant, samples=14)
    assert found.suspects[0].module == module, [s.layer.name for s in found.suspects]


@pytest.mark.slow
def test_a_changed_executorch_file_is_searched_through_a_re_export(
    bisector: Bisector, every_bundle: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file

    weight = load_file(str(tiny_bert / "model.safetensors"))["encoder.layer.1.output.dense.weight"]
    change = in_place(weight, np.roll(weight, 3, axis=0))
    bundle = faulty_copy(every_bundle, tmp_path / "faulty.fsb", "executorch-fp32", change)
    found = bisector.bisect(bundle, variant="executorch-fp32", samples=14)
    assert found.suspects[0].module == f"{LAYER}.output.dense"
    assert any("not what its recipe gives" in note for note in found.notes)
    assert any("the same bits" in note for note in found.notes)
