"""ONNX artifacts: what the graph becomes in each precision, and that it still computes the model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx as onnx_library
import onnxruntime
import pytest
import torch

from fastserve_converters.artifact import GRAPH_OPTIMIZATION, LAYER_SQNR
from fastserve_converters.checkpoints.model_loading import load_model
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.formats import ExportJob, onnx
from fastserve_converters.formats.onnx.files import MODEL
from fastserve_converters.formats.onnx.layer_outputs import layer_reader, layer_tensors
from fastserve_converters.models.dynamic_shapes import MIN_TOKENS
from fastserve_converters.models.encoder_signature import encoder_part
from fastserve_converters.models.exportable_model import ExportableModel, build_exportable_model
from fastserve_converters.models.model import TracedPart
from fastserve_converters.precisions import INT8, RangeMethod, WeightScheme
from fastserve_converters.quantization.weights import quantize_nearest
from fastserve_runtime.errors import UsageError

FULL = 16
INT4 = WeightScheme(4, 16, symmetric=False)
FAMILIES = ("bert", "roberta", "albert", "distilbert")


@pytest.fixture(scope="module")
def exportable_models(tiny: Callable[..., Path]) -> Callable[[str], ExportableModel]:
    made: dict[str, ExportableModel] = {}

    def make(family: str) -> ExportableModel:
        if family not in made:
            checkpoint = read_checkpoint(
                tiny(family, sentence=True), task="auto", allow_pickle=False, trust_remote_code=False
            )
            made[family] = build_exportable_model(load_model(checkpoint, trust_remote_code=False), checkpoint, FULL)
        return made[family]

    return make


@pytest.fixture(scope="module")
def export(
    exportable_models: Callable[[str], ExportableModel], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Exports a tiny model; linear layers and embeddings get the schemes that are given, `kept` stay in float."""
    parts: dict[str, TracedPart] = {}

    def make(
        precision: str,
        family: str = "bert",
        *,
        linear: WeightScheme | None = None,
        embedding: WeightScheme | None = None,
        schemes: Mapping[str, WeightScheme | None] | None = None,
        base: Path | None = None,
        calibrate: bool = False,
        range_method: RangeMethod = "min-max",
    ) -> Path:
        module = exportable_models(family)
        precision_spec = onnx.PRECISIONS[precision]
        if family not in parts:
            parts[family] = encoder_part(module, FULL)
        weights = {}
        for name, layer in module.named_modules():
            kinds: tuple[tuple[Any, WeightScheme | None], ...] = (
                (torch.nn.Linear, linear),
                (torch.nn.Embedding, embedding),
            )
            for kind, usual in kinds:
                scheme = (schemes or {}).get(name, usual) if isinstance(layer, kind) else None
                if scheme is not None:
                    weights[name] = quantize_nearest(layer.weight.detach().numpy(), scheme)
        out = tmp_path_factory.mktemp(precision)
        job = ExportJob(
            part=parts[family].with_axes(is_open=precision_spec.has_dynamic_length),
            precision=precision,
            precision_spec=precision_spec,
            weights=weights,
            calibration=samples(24) if calibrate else {},
            samples=samples(8),
            base=base,
            out=out,
            range_method=range_method,
        )
        artifact = onnx.export(job)
        (out / "requires").write_text(artifact.requires.min_version)
        return out

    return make


@pytest.fixture(scope="module")
def portable(export: Callable[..., Path]) -> Path:
    return export("fp32")


@pytest.fixture(scope="module")
def int8(export: Callable[..., Path]) -> Path:
    return export("int8-dynamic", linear=INT8, embedding=INT8, calibrate=True)


def samples(count: int, tokens: int | None = None) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(count)
    ids = rng.integers(5, 800, (count, tokens or FULL)).astype(np.int32)
    mask = np.ones(ids.shape, np.float32)
    if tokens is None:
        mask[np.arange(FULL)[None] >= rng.integers(3, FULL + 1, count)[:, None]] = 0
    return {"input_ids": ids, "attention_mask": mask}


def one(tokens: int, padding: int = 0) -> dict[str, np.ndarray]:
    sample = samples(1, tokens)
    sample["attention_mask"][:, tokens - padding :] = 0
    return sample


def run(folder: Path, sample: Mapping[str, np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(folder / MODEL), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, dict(sample))[0])


def expected(module: ExportableModel, sample: Mapping[str, np.ndarray]) -> np.ndarray:
    with torch.no_grad():
        return module(**{name: torch.from_numpy(v) for name, v in sample.items()})[module.outputs[0].name].numpy()


def operators(folder: Path) -> Counter[tuple[str, str]]:
    model = onnx_library.load(str(folder / MODEL))
    return Counter((n.domain, n.op_type) for n in model.graph.node)


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    return float((left * right).sum() / np.linalg.norm(left) / np.linalg.norm(right))


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_and_gelu_of_every_family_are_fused_and_compute_the_same(
    family: str, export: Callable[..., Path], exportable_models: Callable[[str], ExportableModel]
) -> None:
    folder = export("fp32-fused", family)
    found = operators(folder)
    assert found["com.microsoft", "MultiHeadAttention"] == 2
    assert found["", "Gelu"] == 2
    assert not {name for _, name in found} & {"Softmax", "Tanh", "Erf", "MatMul", "Transpose"}
    for sample in (one(FULL), one(FULL, padding=5), one(7), one(MIN_TOKENS)):
        np.testing.assert_allclose(run(folder, sample), expected(exportable_models(family), sample), atol=1e-5)
    counts = json.loads((folder / GRAPH_OPTIMIZATION).read_text())
    assert counts["before"]["Softmax"] == 2
    assert "Softmax" not in counts["after"]
    assert counts["after"]["MultiHeadAttention"] == 2


def test_the_portable_graph_has_standard_operators_and_a_fixed_length(
    portable: Path, exportable_models: Callable[[str], ExportableModel]
) -> None:
    assert {domain for domain, _ in operators(portable)} == {""}
    model = onnx_library.load(str(portable / MODEL))
    assert [[d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input] == [[1, FULL]] * 2
    sample = one(FULL, padding=4)
    np.testing.assert_allclose(run(portable, sample), expected(exportable_models("bert"), sample), atol=1e-5)
    assert b"/site-packages/" not in (portable / MODEL).read_bytes()


@pytest.mark.parametrize(("precision", "minimum"), [("fp16", 0.999), ("a16w8", 0.99), ("int8-static", 0.9)])
def test_portable_variants_stay_portable_and_near(
    precision: str,
    minimum: float,
    portable: Path,
    export: Callable[..., Path],
    exportable_models: Callable[[str], ExportableModel],
) -> None:
    folder = export(precision, base=portable, embedding=INT8 if precision != "fp16" else None, calibrate=True)
    assert {domain for domain, _ in operators(folder)} == {""}
    sample = one(FULL, padding=4)
    result = run(folder, sample)
    assert result.dtype == np.float32
    assert cosine(result, expected(exportable_models("bert"), sample)) > minimum
    assert (folder / MODEL).stat().st_size < 0.95 * (portable / MODEL).stat().st_size


def test_ranges_are_found_by_the_method_that_is_named(portable: Path, export: Callable[..., Path]) -> None:
    methods: tuple[RangeMethod, ...] = ("min-max", "mse")
    folders = [export("int8-static", base=portable, calibrate=True, range_method=m) for m in methods]
    scales = []
    for folder in folders:
        model = onnx_library.load(str(folder / MODEL))
        constants = {i.name: onnx_library.numpy_helper.to_array(i) for i in model.graph.initializer}
        quantized = [n for n in model.graph.node if n.op_type == "QuantizeLinear"]
        scales.append(sum(float(constants[n.input[1]].sum()) for n in quantized))
    assert abs(scales[1] / scales[0] - 1) > 0.01


def test_int8_attention_is_one_operator_and_takes_any_length(
    int8: Path, exportable_models: Callable[[str], ExportableModel]
) -> None:
    found = operators(int8)
    assert found["com.microsoft", "QAttention"] == 2
    assert found["com.microsoft", "DynamicQuantizeMatMul"] == 6
    assert found["com.microsoft", "MultiHeadAttention"] == 0
    for sample in (one(FULL, padding=5), one(MIN_TOKENS)):
        assert cosine(run(int8, sample), expected(exportable_models("bert"), sample)) > 0.99


def test_int4_weights_multiply_in_int8_after_loading(
    export: Callable[..., Path], exportable_models: Callable[[str], ExportableModel], tmp_path: Path
) -> None:
    folder = export("int4", linear=INT4, embedding=INT4)
    assert (folder / "requires").read_text() == "1.23"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / MODEL)
    onnxruntime.InferenceSession(str(folder / MODEL), options, providers=["CPUExecutionProvider"])
    loaded = operators(tmp_path)
    assert loaded["com.microsoft", "QAttention"] == 2
    assert loaded["", "Round"] == 0, "the quantized weights are unpacked while the model is loaded, not in every call"
    sample = one(9)
    assert cosine(run(folder, sample), expected(exportable_models("bert"), sample)) > 0.9


def test_layers_of_one_graph_differ_in_scheme(
    export: Callable[..., Path], exportable_models: Callable[[str], ExportableModel]
) -> None:
    attention = "model.encoder.layer.{}.attention.self.{}"
    schemes = {
        attention.format(0, "query"): INT4,
        attention.format(1, "key"): None,
        "model.encoder.layer.0.output.dense": INT4,
        "model.encoder.layer.1.output.dense": None,
    }
    folder = export("mixed", linear=INT8, embedding=INT4, schemes=schemes)
    found = operators(folder)
    assert found["com.microsoft", "QAttention"] == 1, "int4 and int8 projections join, a float one does not"
    assert found["com.microsoft", "MultiHeadAttention"] == 1
    assert found["", "Gemm"] == 2
    assert found["com.microsoft", "GatherBlockQuantized"] == 1
    sample = one(11)
    assert cosine(run(folder, sample), expected(exportable_models("bert"), sample)) > 0.95


def test_weight_only_layers_multiply_by_groups_or_are_unpacked(
    export: Callable[..., Path], exportable_models: Callable[[str], ExportableModel]
) -> None:
    by_row = {"model.encoder.layer.0.output.dense": WeightScheme(8, 8)}
    folder = export("int8-weight-only", linear=WeightScheme(8, 16), embedding=INT8, schemes=by_row)
    found = operators(folder)
    assert found["com.microsoft", "MatMulNBits"] == 11
    assert found["", "MatMul"] == 1
    sample = one(12)
    assert cosine(run(folder, sample), expected(exportable_models("bert"), sample)) > 0.999


def test_embedding_groups_without_an_operator_are_refused(export: Callable[..., Path]) -> None:
    with pytest.raises(UsageError, match=r"groups of 8 columns, as the embedding model.embeddings.word_embeddings"):
        export("mixed", embedding=WeightScheme(4, 8, symmetric=False))


def test_layer_outputs_are_found_by_torch_module(
    portable: Path, int8: Path, exportable_models: Callable[[str], ExportableModel]
) -> None:
    module, sample = exportable_models("bert"), one(FULL)
    dense = "model.encoder.layer.1.intermediate.dense"
    outputs: list[np.ndarray] = []
    hook = module.get_submodule(dense).register_forward_hook(lambda _, __, out: outputs.append(out.numpy()))
    expected(module, sample)
    hook.remove()
    for artifact, minimum in ((portable, 0.999999), (int8, 0.99)):
        tensors = layer_tensors(artifact)
        assert "model.embeddings.word_embeddings" in tensors
        found = layer_reader(artifact / MODEL, {dense: tensors[dense]})(sample)
        assert cosine(found[dense], outputs[0]) > minimum
    assert "model.encoder.layer.0.attention.self.query" in layer_tensors(portable)
    assert "model.encoder.layer.0.attention.self.query" not in layer_tensors(int8), "inside QAttention"
    losses = json.loads((int8 / LAYER_SQNR).read_text())["sqnr_db"]
    assert losses[dense] > 20
    assert not (portable / LAYER_SQNR).exists()
