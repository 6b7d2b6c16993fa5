"""The jobs of a converter process on a decoder: reference, proof, artifact, and its second check."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastserve_converters import formats
from fastserve_converters.formats.onnx import decoder as onnx_decoder
from fastserve_converters.models.decoder import reading
from fastserve_converters.models.decoder.form import RmsNorm
from fastserve_converters.quantized_weight import QuantizedWeight
from fastserve_converters.worker.jobs import Jobs
from fastserve_runtime.bundle.manifest import Graph
from fastserve_runtime.bundle.signatures import parse_signature
from fastserve_runtime.engines import installed_engine
from fastserve_runtime.errors import EnvironmentFailure, UsageError
from fastserve_runtime.generation.shared_cache import SharedCacheDecoder
from fastserve_runtime.generation.traces import run_traces
from fastserve_runtime.parsing import Fields

CONTEXT = 64
TEXTS = {"data": [], "text_column": "text", "label_column": "label", "seed": 0}
MIN_FAKE_QUANT_SQNR_DB = 10


class Export:
    """One model's jobs, each into a folder of its own, as the stages of an export ask for them."""

    def __init__(self, checkpoint: Path, out: Path) -> None:
        self.out = out
        self.jobs = Jobs()
        self.source = {
            "path": str(checkpoint),
            "task": "text-generation",
            "length": CONTEXT,
            "allow_pickle": False,
            "trust_remote_code": False,
        }
        self.reference = self.run("reference", **TEXTS)

    def run(self, job: str, name: str | None = None, **fields: Any) -> dict[str, Any]:
        request = {"job": job, "source": self.source, "out": str(self.out / (name or job)), **fields}
        if job != "reference":
            request["reference"] = str(self.out / "reference")
            request["prompts"] = self.reference["preprocessing"]["settings"]
            request["evaluation"] = self.reference["evaluation"]
        result: dict[str, Any] = self.jobs.run(request)
        return result

    def artifact(self, precision: str, assignment: dict[str, Any] | None = None) -> dict[str, Any]:
        chosen = {"format": "onnx", "precision": precision, "base": None, "assignment": assignment}
        return self.run("artifact", precision, **chosen, range_method="min-max")

    def measured(self, precision: str, document: dict[str, Any]) -> Path:
        """Run an artifact on all traces, as the measuring process does."""
        graphs = {n: Graph(g["file"], g["entry"], parse_signature(Fields(g, n))) for n, g in document["graphs"].items()}
        with installed_engine("onnx").open_session(
            self.out / precision / document["files"][0], graphs, threads=1
        ) as session:
            outputs = run_traces(SharedCacheDecoder(session), arrays(self.out / "reference" / "inputs.npz"))
        file = self.out / f"{precision}.npz"
        np.savez(file, **outputs)
        return file

    def fake_quant_reference(
        self, precision: str, outputs: Path, assignment: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        chosen = {"format": "onnx", "precision": precision, "assignment": assignment}
        return self.run("fake_quant_reference", f"{precision}-fake-quant", **chosen, artifact="", outputs=str(outputs))


def arrays(file: Path) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as content:
        return {name: content[name] for name in content.files}


@pytest.fixture(scope="session", params=["llama", "gpt2"])
def export(request, tiny_decoder, tmp_path_factory: pytest.TempPathFactory) -> Export:
    return Export(tiny_decoder(request.param), tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="session")
def llama(tiny_decoder, tmp_path_factory: pytest.TempPathFactory) -> Export:
    return Export(tiny_decoder("llama"), tmp_path_factory.mktemp("llama-alone"))


def test_the_reference_tells_how_long_loading_took(export: Export) -> None:
    assert export.reference["load_seconds"] > 0
    assert export.reference["evaluation"] == 8
    assert export.reference["preprocessing"]["settings"]["context"] == CONTEXT
    assert (export.out / "reference" / "reference.npz").is_file()


def test_the_form_is_proven_on_the_references_traces(export: Export) -> None:
    proof = export.run("program")
    assert proof["largest_difference"] < 1e-5
    names = [name for name, _ in proof["modules"]]
    assert {"embedding", "head", "blocks.1.attention.qkv"} <= set(names)
    assert json.loads((export.out / "program" / "signature.json").read_text()) == proof


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4", "int4-embedding-int8"])
def test_an_artifact_computes_the_reference_and_its_fake_quant_reference(export: Export, precision: str) -> None:
    document = export.artifact(precision)
    assert json.loads((export.out / precision / "artifact.json").read_text()) == document
    assert document["files"] == ["model.onnx"]
    assert (
        document["recipe"]["linear"]
        == {
            "fp32": None,
            "int8": "int8-g32",
            "int4": "int4-g32-asymmetric",
            "int4-embedding-int8": "int4-g32-asymmetric",
        }[precision]
    )
    (graph,) = document["graphs"].values()
    pasts = [t for t in graph["inputs"] if t["name"].startswith("past_key_values.")]
    assert {t["dims"][2]["max"] for t in pasts} == {CONTEXT}
    file = export.measured(precision, document)
    reference, actual = arrays(export.out / "reference" / "reference.npz"), arrays(file)
    scored = arrays(export.out / "reference" / "inputs.npz")["scored"]
    errors = np.abs(reference["log_probabilities"] - actual["log_probabilities"])[scored]
    assert errors.max() < 1e-3 if precision == "fp32" else 1e-3 < errors.mean() < 2
    if precision != "fp32":
        fake_quant_reference = export.fake_quant_reference(precision, file)
        assert fake_quant_reference["executor"] == "the same quantized weights in PyTorch"
        assert fake_quant_reference["sqnr_db"] > 15
        calibration = document["recipe"]["calibration"]
        assert (calibration is None) is (precision == "int8")


@pytest.mark.parametrize("layer", ["blocks.0.attention.qkv", "blocks.1.attention.output", "blocks.1.feed_forward.down"])
def test_a_wrong_scale_in_an_artifact_is_seen_by_its_fake_quant_reference(
    llama: Export, layer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = onnx_decoder.export

    def spoilt(job):
        weight: QuantizedWeight = job.weights[layer]
        wrong = replace(weight, scale=weight.scale * np.float32(2))
        return right(replace(job, weights={**job.weights, layer: wrong}))

    monkeypatch.setattr(onnx_decoder, "export", spoilt)
    document = llama.artifact("int8")
    assert llama.fake_quant_reference("int8", llama.measured("int8", document))["sqnr_db"] < MIN_FAKE_QUANT_SQNR_DB


def test_layers_are_scored_and_given_their_own_schemes(export: Export) -> None:
    scores = export.run("sensitivity", format="onnx", precision="mixed")
    assert scores["samples"] == 2
    units = scores["units"]
    layers = {name for unit in units for name in unit["layers"]}
    assert ("head" in layers) is (export.source["path"].endswith("llama"))
    total = sum(v.nbytes for v in _parameters(export).values())
    stored = sum(_parameters(export)[f"{name}.weight"].nbytes for name in layers)
    assert scores["other_bytes"] == total - stored
    assignment = {
        name: option["scheme"] for unit in units for name in unit["layers"] for option in unit["options"][-1:]
    }
    document = export.artifact("mixed", assignment)
    assert document["recipe"]["assignment"] == assignment
    fake_quant_reference = export.fake_quant_reference("mixed", export.measured("mixed", document), assignment)
    assert fake_quant_reference["sqnr_db"] > 15


def _parameters(export: Export) -> dict[str, np.ndarray]:
    from fastserve_converters.checkpoints.model_loading import load_model
    from fastserve_converters.checkpoints.reading import read_checkpoint
    from fastserve_converters.models.decoder.reading import read_decoder

    form = read_decoder(load_model(read_checkpoint(Path(export.source["path"]))), CONTEXT)
    return {name: p.detach().numpy() for name, p in form.named_parameters()}


def test_a_form_that_is_not_the_model_is_refused(llama: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    right = reading.read_decoder

    def wrong(model: Any, context: int):
        form = right(model, context)
        norm = form.layers[1].feed_forward_norm
        assert isinstance(norm, RmsNorm)
        norm.epsilon = 0.1
        return form

    monkeypatch.setattr(reading, "read_decoder", wrong)
    again = Jobs()
    request = {"source": llama.source, "reference": str(llama.out / "reference"), "out": str(llama.out / "wrong")}
    with pytest.raises(EnvironmentFailure, match="exportable model differs from the original by"):
        again.run({"job": "program", **request})


def test_what_a_checkpoint_asks_for_and_does_not_get_is_told(tiny_decoder, tmp_path: Path) -> None:
    import transformers

    folder = shutil.copytree(tiny_decoder("llama"), tmp_path / "asking")
    (folder / "generation_config.json").write_text(json.dumps({"num_beams": 4, "eos_token_id": [2, 5000]}))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<picture>"], special_tokens=True)
    tokenizer.chat_template = {"default": tokenizer.chat_template, "rag": "{{ messages[0].content }}"}
    tokenizer.save_pretrained(folder)
    notes = Export(folder, tmp_path).reference["notes"]
    for words in ("num_beams 4", "the eos_token_id 5000", "'<picture>' (512)", "templates named rag"):
        assert sum(words in note for note in notes) == 1, words


def test_a_model_with_weights_that_are_not_finite_is_not_scored(tiny_decoder, llama: Export, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    spoilt = shutil.copytree(tiny_decoder("llama"), tmp_path / "spoilt")
    weights = load_file(spoilt / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"][0, 0] = torch.inf
    save_file(weights, spoilt / "model.safetensors", metadata={"format": "pt"})
    source = llama.source | {"path": str(spoilt)}
    with pytest.raises(UsageError, match=r"weight 'model\.layers\.0\.mlp\.up_proj\.weight' has values"):
        Jobs().run({"job": "reference", "source": source, "out": str(tmp_path / "reference"), **TEXTS})


@pytest.mark.parametrize(
    ("changes", "problem", "remedy"),
    [
        ({"precision": "int2"}, "The format onnx has no precision 'int2'.", "It has: fp32, int8,"),
        ({"precision": "source"}, "keeps a checkpoint's own quantized weights; this one has floats", "GGUF"),
        ({"format": "gguf"}, "There is no format 'gguf'.", "onnx"),
    ],
)
def test_what_cannot_be_made_is_told(llama: Export, changes: dict[str, str], problem: str, remedy: str) -> None:
    wanted = {"format": "onnx", "precision": "int8", "base": None, "assignment": None, "range_method": "min-max"}
    with pytest.raises(UsageError) as failure:
        llama.run("artifact", "refused", **(wanted | changes))
    assert problem in failure.value.problem
    assert remedy in failure.value.remedy


def test_a_format_without_decoders_is_refused(llama: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "cached_exporter", lambda _: None)
    with pytest.raises(UsageError, match="The format onnx takes no models that generate text") as failure:
        llama.artifact("fp32")
    assert "--format" in failure.value.remedy
