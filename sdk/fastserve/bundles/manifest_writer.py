"""Putting together what a bundle's manifest says and the files that it lists."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastserve.bundles.bundle_writer import BundleFile
from fastserve.cache.cache import Entry
from fastserve.model_source import ModelSource
from fastserve.pipeline.work.judging import known_of_windows, read_arrays
from fastserve.search.candidate import Candidate
from fastserve_converters.artifact import GENAI_CONFIG
from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.licences import MODEL_CARD
from fastserve_converters.checkpoints.tokenizer_loading import TOKENIZER_CONFIG
from fastserve_converters.checkpoints.tokenizer_loading import TOKENIZER_FILE as TOKENIZER
from fastserve_converters.layer_map import LAYER_MAP
from fastserve_converters.pass_words import parse_pass
from fastserve_converters.programs.torch_program import TorchProgram
from fastserve_runtime.bundle.evaluation import MAX_SAMPLES, PLACE, ROLE, Evaluation, compared_values, write_evaluation
from fastserve_runtime.bundle.golden import Arrays, Golden, write_golden
from fastserve_runtime.bundle.manifest import SCHEMA_VERSION
from fastserve_runtime.bundle.raw_inputs import OF_TEXTS
from fastserve_runtime.plugins import PIPELINES
from fastserve_runtime.sessions.lengths import MASK

LAYER_MAP_ROLE = "layer-map"
_GENAI = "onnxruntime-genai"
_TOKENIZER_PLACE = "preprocessing/tokenizer.json"


def bundle_content(
    candidates: Sequence[Candidate], reference: Entry, checkpoint: Checkpoint | TorchProgram, source: ModelSource
) -> tuple[dict[str, Any], list[BundleFile]]:
    """Return the manifest's document, without `files`, and the files.

    Args:
        candidates: what ships, best first; the first is the chosen one.
        reference: the reference stage.
        checkpoint: the model.
        source: where it came from.
    """
    others = genai_files(candidates, reference)
    # ONNX Runtime GenAI wants the tokenizer beside its configuration, and all it names below that.
    tokenizer = TOKENIZER if others else _TOKENIZER_PLACE
    has_tokenizer = TOKENIZER in reference.files
    files = list(others)
    if has_tokenizer:
        files.insert(
            0, BundleFile(tokenizer, "preprocessing", reference.folder / TOKENIZER, reference.files[TOKENIZER])
        )
    for file in checkpoint.licence_files():
        role = "model-card" if file.name == MODEL_CARD else "licence"
        files.append(BundleFile(f"licences/{file.name}", role, file))
    evaluation = evaluation_of(reference, checkpoint.task)
    if evaluation is not None:
        files.append(BundleFile(PLACE, ROLE, write_evaluation(evaluation)))
    variants = []
    for candidate in candidates:
        document, own = _variant(candidate, reference)
        variants.append(document)
        files.extend(own)
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "task": checkpoint.task,
        "task_settings": reference.result["task_settings"],
        "preprocessing": {**reference.result["preprocessing"], "files": [tokenizer] if has_tokenizer else []},
        "variants": variants,
        "chosen": candidates[0].id,
        "source": {
            "name": source.name,
            "revision": source.revision,
            "weights_sha256": checkpoint.weights_sha256(),
            "licence": checkpoint.licence,
        },
    }
    return manifest, files


def genai_files(candidates: Sequence[Candidate], reference: Entry) -> list[BundleFile]:
    """Return what makes the bundle's folder one that ONNX Runtime GenAI opens: for the best candidate that it runs."""
    for candidate in candidates:
        assert candidate.folder is not None
        if (candidate.folder / GENAI_CONFIG).is_file():
            document = json.loads((candidate.folder / GENAI_CONFIG).read_text())
            decoder = document["model"]["decoder"]
            decoder["filename"] = f"{variant_folder(candidate)}/{decoder['filename']}"
            return [
                BundleFile(GENAI_CONFIG, _GENAI, json.dumps(document, indent=1).encode()),
                BundleFile(TOKENIZER_CONFIG, _GENAI, reference.folder / TOKENIZER_CONFIG),
            ]
    return []


def variant_folder(candidate: Candidate) -> str:
    """Return the folder of a candidate's files in a bundle."""
    return f"variants/{candidate.id}"


def layer_map_place(variant_id: str) -> str:
    """Return where a bundle keeps what a variant's tensors are in the torch model."""
    return f"layer_maps/{variant_id}.json"


def shared_bytes(reference: Entry) -> int:
    """Return the size of what every variant needs beside its own files."""
    return (reference.folder / TOKENIZER).stat().st_size if TOKENIZER in reference.files else 0


def evaluation_of(reference: Entry, task: str) -> Evaluation | None:
    """Return the first evaluation samples, `MAX_SAMPLES` at most; None where the task's pipeline compares none."""
    pipeline = PIPELINES.load(task)
    if not hasattr(pipeline, "task_metric"):
        return None
    count = min(MAX_SAMPLES, reference.result["evaluation"])
    inputs, outputs = (
        {name: value[:count] for name, value in read_arrays(reference.folder / file).items()}
        for file in ("inputs.npz", "reference.npz")
    )
    inputs |= {name: values[:count] for name, values in known_of_windows(reference).items()}
    values: Arrays = {
        name: np.asarray(value, np.float32) if value.dtype.kind == "f" else value
        for name, value in compared_values(pipeline, outputs, inputs).items()
    }
    return Evaluation(inputs, values)


def golden_of(candidate: Candidate, reference: Entry) -> Golden:
    """Return a candidate's golden: the samples after the evaluation ones."""
    assert candidate.outputs is not None
    count = reference.result["evaluation"]
    goldens = reference.result["goldens"]
    inputs, expected, actual = (
        {name: value[count:] for name, value in read_arrays(file).items()}
        for file in (reference.folder / "inputs.npz", reference.folder / "reference.npz", candidate.outputs)
    )
    return Golden(
        texts=np.array([g["text"] for g in goldens]),
        kinds=np.array([g["kind"] for g in goldens]),
        realistic=np.array([g["realistic"] for g in goldens]),
        inputs=inputs,
        reference=expected,
        artifact=actual,
        pair_texts=np.array([g["pair"] for g in goldens]) if any("pair" in g for g in goldens) else None,
    )


def _variant(candidate: Candidate, reference: Entry) -> tuple[dict[str, Any], list[BundleFile]]:
    assert candidate.artifact is not None
    assert candidate.folder is not None
    folder = variant_folder(candidate)
    golden = f"golden/{candidate.id}.npz"
    names = candidate.artifact["files"]
    files = [
        BundleFile(f"{folder}/{name}", "model", candidate.folder / name, candidate.digests.get(name)) for name in names
    ]
    files.append(BundleFile(golden, "golden", write_golden(golden_of(candidate, reference))))
    if (candidate.folder / LAYER_MAP).is_file():
        files.append(BundleFile(layer_map_place(candidate.id), LAYER_MAP_ROLE, candidate.folder / LAYER_MAP))
    graphs = {
        name: {**graph, "file": f"{folder}/{graph['file']}"} for name, graph in candidate.artifact["graphs"].items()
    }
    document = {
        **candidate.artifact,
        "id": candidate.id,
        "recipe": {
            "passes": [parse_pass(words).as_document() for words in candidate.recipe.passes],
            "format": candidate.format,
            "precision": candidate.precision,
            **candidate.artifact["recipe"],
        },
        "format": candidate.format,
        "precision": candidate.precision,
        "files": [f"{folder}/{name}" for name in names],
        "golden": golden,
        "graphs": graphs,
        "target": candidate.target,
        **({"padding": padding_of(graphs)} if reference.result["preprocessing"]["kind"] in OF_TEXTS else {}),
    }
    return document, files


def padding_of(graphs: Mapping[str, Mapping[str, Any]]) -> str:
    """Return how a text's tokens are padded for an encoder, in the words of Transformers' tokenizers.

    Args:
        graphs: by name, as a manifest has them.
    """
    masks = [t for graph in graphs.values() for t in graph["inputs"] if t["name"] == MASK]
    return "do_not_pad" if masks and all(isinstance(mask["dims"][-1], dict) for mask in masks) else "max_length"
