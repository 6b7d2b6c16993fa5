"""ExecuTorch artifacts compute, in their engine and at any length, the quantized weights that they were given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import fastserve_runtime
from checkpoints import save_checkpoint
from fastserve_converters.artifact import LAYER_SQNR
from fastserve_converters.checkpoints.model_loading import load_model
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.formats import executorch
from fastserve_converters.formats.executorch.evidence import as_tensors, program_outputs, record_evidence
from fastserve_converters.layer_map import read_modules
from fastserve_converters.models.encoder_signature import encoder_part
from fastserve_converters.models.exportable_model import ExportableModel, build_exportable_model
from fastserve_converters.models.samples import single_samples
from fastserve_converters.precisions import has_fake_quant_reference
from fastserve_converters.quantization import fake_quant_reference
from fastserve_converters.quantization.fake_quant import fake_quantized
from fastserve_converters.quantization.gptq import Rounder
from fastserve_converters.quantization.layers import assignment, quantized_weights
from fastserve_converters.quantization.weights import quantize_nearest
from fastserve_converters.quantized_weight import QuantizedWeight
from fastserve_runtime.conformance.metrics import sqnr_db
from fastserve_runtime.errors import UsageError

pytest.importorskip("fastserve_executorch", reason="fastserve-executorch is not installed")

LENGTH = 16
# Each export takes seconds. The layers of `mixed` are those of `int8-dynamic` and `int4`.
QUANTIZED = [
    *(pytest.param(p, marks=pytest.mark.slow) for p in ("int8-dynamic", "int4")),
    "int8-static",
    "a16w8",
    "mixed",
]
PRECISIONS = [pytest.param("fp32", marks=pytest.mark.slow), "fp16", *QUANTIZED]
QUERY = "model.encoder.layer.0.attention.self.query"
KEY = "model.encoder.layer.0.attention.self.key"
DENSE = "model.encoder.layer.0.output.dense"
WORDS = "model.embeddings.word_embeddings"
MIXTURE = {
    QUERY: {"bits": 4, "group": 32, "scale": "bfloat16"},
    KEY: {"bits": 8},
    DENSE: {"bits": 8},
    WORDS: {"bits": 4, "group": 16, "symmetric": False, "scale": "float16"},
}
"""All other layers stay in float."""

MIN_DB = {"fp32": 90, "fp16": 70, "int8-static": 15, "a16w8": 40}
"""Against what the precision computes exactly; others than these round activations to 8 bits by token, as the
fake-quant reference does, but not at the same places."""


def tokens(lengths: list[int], width: int) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(width).integers(5, 700, (len(lengths), width)).astype(np.int32)
    return {"input_ids": ids, "attention_mask": (np.arange(width) < np.array(lengths)[:, None]).astype(np.float32)}


CALIBRATION = tokens([16, 12, 9, 5] * 4, LENGTH)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A sentence encoder of one layer, and what exports it in a precision, once each."""
    folder = tmp_path_factory.mktemp("executorch")
    checkpoint = read_checkpoint(save_checkpoint(folder / "model", layers=1, sentence=True), task="auto")
    module = build_exportable_model(load_model(checkpoint), checkpoint, LENGTH)
    part = encoder_part(module, LENGTH)

    def job_of(precision: str, weights: Mapping[str, QuantizedWeight] | None = None) -> Any:
        precision_spec = executorch.PRECISIONS[precision]
        if weights is None:
            schemes = assignment(part, precision_spec, MIXTURE if precision == "mixed" else None)
            weights = quantized_weights(
                part, schemes, precision_spec.rounding, rounder=lambda: Rounder(part, CALIBRATION)
            )
        out = folder / precision
        out.mkdir(exist_ok=True)
        return SimpleNamespace(
            part=part,
            precision=precision,
            precision_spec=precision_spec,
            weights=weights,
            range_method="min-max",
            calibration=CALIBRATION,
            samples=CALIBRATION,
            base=None,
            out=out,
        )

    @cache
    def artifact(precision: str) -> SimpleNamespace:
        job = job_of(precision)
        return SimpleNamespace(job=job, path=job.out / executorch.MODEL, artifact=executorch.export(job))

    return SimpleNamespace(module=module, part=part, job_of=job_of, artifact=artifact)


def computed(module: ExportableModel, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    with torch.no_grad():
        return module(**{name: torch.from_numpy(value) for name, value in inputs.items()})[
            module.outputs[0].name
        ].numpy()


def exact(exported: SimpleNamespace, precision: str, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return what a precision stands for, in PyTorch."""
    module, job = exported.module, exported.artifact(precision).job
    if precision == "fp16":
        return computed(with_half_weights(module), inputs)
    # 16 bits lose hardly anything; ranges of 8 bits are a matter of the format's.
    is_fake_quant_reference = has_fake_quant_reference(job.precision_spec) or precision == "a16w8"
    with (
        fake_quantized(module, job.weights, job.precision_spec.activations)
        if is_fake_quant_reference
        else nullcontext()
    ):
        return computed(module, inputs)


def with_half_weights(module: ExportableModel) -> ExportableModel:
    import copy

    changed = copy.deepcopy(module)
    for layer in changed.modules():
        if isinstance(layer, torch.nn.Linear | torch.nn.Embedding):
            layer.weight.data = layer.weight.data.half().float()
    return changed


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_computes_what_it_stands_for_at_every_length(exported: SimpleNamespace, precision: str) -> None:
    given = [tokens([n], n) for n in (2, 5, LENGTH)] + [tokens([5], 9)]
    with fastserve_runtime.open_model(exported.artifact(precision).path, threads=1) as session:
        assert session.engine == "executorch"
        # Inputs have their names in bundles only; here they go in the program's order.
        (graph,) = session.graphs.values()
        names = [tensor.name for tensor in graph.inputs]
        actual = [next(iter(session.run(dict(zip(names, inputs.values(), strict=True))).values())) for inputs in given]
    expected = [exact(exported, precision, inputs) for inputs in given]
    for inputs, value, wanted in zip(given, actual, expected, strict=True):
        found = sqnr_db(wanted, value)
        assert found > MIN_DB.get(precision, 25), inputs["input_ids"].shape
    if precision != "fp32":
        plain = [computed(exported.module, inputs) for inputs in given]
        assert sqnr_db(np.concatenate(plain), np.concatenate(actual)) < MIN_DB["fp32"], "it is quantized"


def test_half_precision_is_that_of_weights_alone(exported: SimpleNamespace) -> None:
    from fastserve_executorch import Program

    half = exported.artifact("fp16")
    with Program(str(half.path), threads=1, trace=True) as program:
        program.run("forward", list(tokens([5], 5).values()))
        layers = [event.name for event in program.profile() if "Fully Connected" in event.name]
    assert layers
    assert all("F32" in name for name in layers)
    parameters = sum(p.numel() for p in exported.module.parameters())
    # 4 bytes each, less what the file holds beside them.
    assert half.path.stat().st_size < 0.8 * 4 * parameters
    assert half.job.precision_spec.activations == "float32"


@pytest.mark.parametrize("precision", QUANTIZED)
def test_the_loss_of_every_quantized_layer_is_recorded(exported: SimpleNamespace, precision: str) -> None:
    job = exported.artifact(precision).job
    by_layer = json.loads((job.out / LAYER_SQNR).read_text())["sqnr_db"]
    assert by_layer.keys() == job.weights.keys()
    assert all(value is not None and value > 5 for value in by_layer.values())


@pytest.mark.parametrize("precision", ["int8-static", "a16w8"])
def test_a_static_artifact_computes_what_its_fake_quant_reference_gives(
    exported: SimpleNamespace, precision: str
) -> None:
    artifact = exported.artifact(precision)
    outputs, executor = fake_quant_reference.read_outputs(artifact.job.out)
    (expected,) = outputs.values()
    assert executor == "the quantized program in PyTorch, before it was lowered"
    few = {name: value[: fake_quant_reference.SAMPLES] for name, value in CALIBRATION.items()}
    with fastserve_runtime.open_model(artifact.path, threads=1) as session:
        (graph,) = session.graphs.values()
        names = [tensor.name for tensor in graph.inputs]
        actual = np.concatenate(
            [
                next(iter(session.run(dict(zip(names, sample.values(), strict=True))).values()))
                for sample in single_samples(few, min_tokens=2)
            ]
        )
    assert sqnr_db(expected, actual) > 30


@pytest.mark.parametrize("precision", ["int8-static", "a16w8"])
def test_a_fake_quant_reference_tells_of_a_scale_that_was_altered(
    exported: SimpleNamespace, precision: str, tmp_path: Path
) -> None:
    job = exported.artifact(precision).job
    program = executorch.rewritten(job)
    job = SimpleNamespace(**{**vars(job), "out": tmp_path})
    record_evidence(job, program)
    ((name, expected),) = fake_quant_reference.read_outputs(tmp_path)[0].items()
    rounding = torch.ops.quantized_decomposed.quantize_per_tensor.default
    graph_module = program.module(check_guards=False)
    node = next(n for n in graph_module.graph.nodes if n.target is rounding)
    node.update_arg(1, node.args[1] * 3)
    actual = [
        program_outputs(graph_module, as_tensors(sample), job.part)[name]
        for sample in single_samples(job.samples, min_tokens=2)
    ]
    assert sqnr_db(expected, np.concatenate(actual)) < 25


@pytest.mark.parametrize("precision", ["fp16", "mixed"])
def test_without_static_ranges_there_are_no_outputs_of_a_fake_quant_reference(
    exported: SimpleNamespace, precision: str
) -> None:
    assert fake_quant_reference.read_outputs(exported.artifact(precision).job.out) is None


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_layer_map_names_modules_of_the_model(exported: SimpleNamespace, precision: str) -> None:
    layers = read_modules(exported.artifact(precision).job.out)
    assert layers.keys() <= {name for name, _ in exported.module.named_modules()}
    assert {QUERY, DENSE, WORDS} <= layers.keys()
    assert all(layers.values())


def test_int16_activations_are_rounded_beside_xnnpack(exported: SimpleNamespace) -> None:
    counts = {operator.name: operator.count for operator in exported.artifact("a16w8").artifact.operators}
    # Query, key and value share their input; no other two layers do.
    assert counts["quantize_per_tensor.out"] == 4
    assert "quantize_per_tensor.out" not in {o.name for o in exported.artifact("int8-static").artifact.operators}


@pytest.mark.parametrize("scheme", [{"bits": 4, "group": 16}, {"bits": 8, "group": 32}])
def test_a_layer_in_groups_that_xnnpack_has_not_is_named(exported: SimpleNamespace, scheme: dict[str, Any]) -> None:
    schemes = assignment(exported.part, executorch.PRECISIONS["mixed"], {DENSE: scheme})
    weight = exported.module.get_submodule(DENSE).weight.detach().numpy()
    job = exported.job_of("mixed", {DENSE: quantize_nearest(weight, schemes[DENSE])})
    with pytest.raises(UsageError, match=f"which '{DENSE}' was given"):
        executorch.export(job)
