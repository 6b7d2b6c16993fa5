"""Putting together what a bundle's manifest says and the files that it lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastserve.bundle_writer import BundleFile
from fastserve.cache import Entry
from fastserve.candidate import Candidate
from fastserve.model_source import ModelSource
from fastserve.stages import read_arrays
from fastserve_converters.checkpoint import MODEL_CARD, Checkpoint
from fastserve_runtime.golden import Golden, write_golden
from fastserve_runtime.manifest import SCHEMA_VERSION

TOKENIZER = "preprocessing/tokenizer.json"


def bundle_content(
    candidates: Sequence[Candidate], reference: Entry, checkpoint: Checkpoint, source: ModelSource
) -> tuple[dict[str, Any], list[BundleFile]]:
    """Return the manifest's document, without `files`, and the files.

    Args:
        candidates: what ships, best first; the first is the chosen one.
        reference: the reference stage.
        checkpoint: the model.
        source: where it came from.
    """
    files = [BundleFile(TOKENIZER, "preprocessing", reference.folder / "tokenizer.json")]
    for file in checkpoint.licence_files():
        role = "model-card" if file.name == MODEL_CARD else "licence"
        files.append(BundleFile(f"licences/{file.name}", role, file))
    variants = []
    for candidate in candidates:
        document, own = _variant(candidate, reference)
        variants.append(document)
        files.extend(own)
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "task": checkpoint.task,
        "task_settings": reference.result["task_settings"],
        "preprocessing": {**reference.result["preprocessing"], "files": [TOKENIZER]},
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


def shared_bytes(reference: Entry) -> int:
    """Return the size of what every variant needs beside its own files."""
    return (reference.folder / "tokenizer.json").stat().st_size


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
    )


def _variant(candidate: Candidate, reference: Entry) -> tuple[dict[str, Any], list[BundleFile]]:
    assert candidate.artifact is not None
    assert candidate.folder is not None
    folder = f"variants/{candidate.id}"
    golden = f"golden/{candidate.id}.npz"
    names = candidate.artifact["files"]
    files = [BundleFile(f"{folder}/{name}", "model", candidate.folder / name) for name in names]
    files.append(BundleFile(golden, "golden", write_golden(golden_of(candidate, reference))))
    graphs = {
        name: {**graph, "file": f"{folder}/{graph['file']}"} for name, graph in candidate.artifact["graphs"].items()
    }
    document = {
        **candidate.artifact,
        "id": candidate.id,
        "recipe": {
            "passes": [],
            "format": candidate.format,
            "precision": candidate.precision,
            **candidate.artifact["recipe"],
        },
        "format": candidate.format,
        "precision": candidate.precision,
        "files": [f"{folder}/{name}" for name in names],
        "golden": golden,
        "graphs": graphs,
        "target": None,
    }
    return document, files
