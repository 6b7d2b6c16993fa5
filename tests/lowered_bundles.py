"""A small convolutional network and a one-layer encoder, and bundles of what lowerings make of them."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastserve_converters.formats import ExportJob
from fastserve_converters.lowerings import Lowered, load_lowering
from fastserve_converters.models.model import TracedPart
from fastserve_converters.models.samples import single_samples
from fastserve_runtime.bundle.golden import Golden, write_golden
from fastserve_runtime.bundle.manifest_documents import graph_document
from fastserve_runtime.bundle.tensor_specs import Signature, TensorSpec
from manifests import GOLDEN, LABELS, TOKENIZER, file_entries, tokenizer_json, valid_manifest, write_directory

SAMPLES = 8
LENGTH = 8
VOCABULARY = 20
WIDTH = 16
PIXELS = (1, 3, 16, 16)


class SmallCnn(torch.nn.Module):
    """Scores images of 16 by 16 pixels, by two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        nn = torch.nn
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(), nn.AvgPool2d(4), nn.Flatten()
        )
        self.head = nn.Linear(16, len(LABELS))

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": 4 * self.head(self.layers(pixels))}


class SmallEncoder(torch.nn.Module):
    """One layer of attention over token ids and a mask, with the parts of a sentence encoder in exportable model."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.query, self.key, self.value, self.out = (torch.nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.norm = torch.nn.LayerNorm(WIDTH)
        self.up, self.down = torch.nn.Linear(WIDTH, 2 * WIDTH), torch.nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.embedding(input_ids)
        penalty = ((1.0 - attention_mask) * -100.0)[:, None, :]
        scores = self.query(hidden) @ self.key(hidden).transpose(1, 2) / math.sqrt(WIDTH) + penalty
        hidden = self.norm(hidden + self.out(torch.softmax(scores, -1) @ self.value(hidden)))
        hidden = hidden + self.down(torch.nn.functional.gelu(self.up(hidden)))
        pooled = (hidden * attention_mask[..., None]).sum(1) / attention_mask.sum(1, keepdim=True)
        return {"sentence_embedding": pooled / (pooled * pooled).sum(-1, keepdim=True).sqrt()}


def cnn_inputs() -> dict[str, np.ndarray]:
    return {"pixels": np.random.default_rng(0).normal(size=(SAMPLES, *PIXELS[1:])).astype(np.float32)}


def encoder_inputs() -> dict[str, np.ndarray]:
    """Ids and masks of padded sequences; the last one has no padding."""
    random = np.random.default_rng(0)
    own = np.linspace(3, LENGTH, SAMPLES).astype(int)
    mask = (np.arange(LENGTH) < own[:, None]).astype(np.float32)
    ids = random.integers(4, VOCABULARY, (SAMPLES, LENGTH)).astype(np.int32)
    ids[:, 0] = 2
    return {"input_ids": np.where(mask == 1, ids, 0).astype(np.int32), "attention_mask": mask}


_MODELS: dict[str, tuple[type[torch.nn.Module], Callable[[], dict[str, np.ndarray]]]] = {
    "cnn": (SmallCnn, cnn_inputs),
    "encoder": (SmallEncoder, encoder_inputs),
}


def job_of(kind: str, target: str, precision: str, out: Path) -> ExportJob:
    """What a lowering gets for one of the two models."""
    make, inputs = _MODELS[kind]
    module, samples = make().eval(), inputs()
    example = {name: torch.from_numpy(value[:1].copy()) for name, value in samples.items()}
    with torch.no_grad():
        ((name, output),) = module(**example).items()
    signature = Signature(
        tuple(TensorSpec(n, str(v.dtype), (1, *v.shape[1:])) for n, v in samples.items()),
        (TensorSpec(name, "float32", tuple(output.shape)),),
    )
    precision_spec = load_lowering(target).PRECISIONS[precision]
    out.mkdir(parents=True, exist_ok=True)
    return ExportJob(TracedPart(module, example, signature), precision, precision_spec, {}, samples, samples, None, out)


@cache
def lowered(kind: str, target: str, precision: str, out: Path) -> tuple[ExportJob, Lowered]:
    """Lower one of the two models; each once."""
    job = job_of(kind, target, precision, out)
    return job, load_lowering(target).lower(job)


def lowered_bundle(location: Path, job: ExportJob, made: Lowered, target: str) -> Path:
    """Write a bundle whose one variant `own` is what a lowering made, with a golden of its reference and its fake-quant
    reference."""
    folder = "variants/own"
    rows = list(single_samples(job.calibration))
    with torch.no_grad():
        reference = [next(iter(job.part.module(**_tensors(row)).values())).numpy() for row in rows]
    (output,) = (spec.name for spec in job.part.signature.outputs)
    golden = Golden(
        texts=np.array([str(i) for i in range(len(rows))]),
        kinds=np.array(["short"] * len(rows)),
        realistic=np.full(len(rows), fill_value=True),
        inputs=dict(job.calibration),
        reference={output: np.concatenate(reference)},
        artifact={output: np.concatenate([made.trusted(row)[output] for row in rows])},
    )
    contents = {f"{folder}/{name}": (job.out / name).read_bytes() for name in made.artifact.files}
    entries = file_entries(contents)
    contents |= {TOKENIZER: tokenizer_json(), GOLDEN: write_golden(golden)}
    fields: dict[str, Any] = made.artifact.as_document()
    fields["files"] = [f"{folder}/{name}" for name in fields["files"]]
    fields["graphs"] = {
        name: {**graph_document(graph), "file": f"{folder}/{graph.file}"}
        for name, graph in made.artifact.graphs.items()
    }
    recipe = {"format": "executorch", "precision": job.precision, "passes": []}
    own = {"id": "own", "format": target.partition(":")[0], "precision": job.precision, "target": target}
    document = valid_manifest()
    document["variants"] = [{**fields, **own, "recipe": recipe, "golden": GOLDEN}]
    document["chosen"] = "own"
    document["files"] = entries | file_entries({TOKENIZER: contents[TOKENIZER]}, "preprocessing")
    document["files"] |= file_entries({GOLDEN: contents[GOLDEN]}, "golden")
    if output == "logits":
        document |= {"task": "text-classification", "task_settings": {"labels": LABELS}}
    return write_directory(location, document, contents)


def _tensors(row: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in row.items()}


def altered(bundle: Path, location: Path, change: Callable[[bytes], bytes]) -> Path:
    """Copy a bundle with its variant's model changed, and the new digest in the manifest."""
    shutil.copytree(bundle, location)
    manifest = json.loads((location / "manifest.json").read_text())
    name = manifest["variants"][0]["files"][0]
    content = change((location / name).read_bytes())
    (location / name).write_bytes(content)
    manifest["files"] |= file_entries({name: content})
    (location / "manifest.json").write_text(json.dumps(manifest))
    return location


def with_negated_embedding(content: bytes) -> bytes:
    """Turn the signs of the encoder's table of floats, wherever a compiler put it."""
    with torch.no_grad():
        table = SmallEncoder().embedding.weight.numpy()
    assert content.count(table.tobytes()) == 1
    return content.replace(table.tobytes(), (-table).tobytes())


def main(kind: str, target: str, precisions: str, folder: str) -> None:
    """Write a bundle `PRECISION.fsb` for each precision, in a process with the environment that its compiler needs."""
    for precision in precisions.split(","):
        job, made = lowered(kind, target, precision, Path(folder) / precision)
        lowered_bundle(Path(folder) / f"{precision}.fsb", job, made, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
