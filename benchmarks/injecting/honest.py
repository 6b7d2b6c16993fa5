"""Honest runs: random models, exported and checked without a fault, of which no check may complain.

Everything of a run comes from its seed: family, task, layers, length, weights, texts, format and precision. Exports are
done in this process, since a process for each would take most of the time. The recorded outputs of a bundle come from
the engine in another setting than the one that is checked, as from another machine: ONNX Runtime without its graph
optimizations, LiteRT with two threads, so that sums are in another order.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastserve.bundles.bundle_writer import write_bundle
from fastserve.bundles.manifest_writer import bundle_content
from fastserve.cache.cache import Entry
from fastserve.model_source import ModelSource
from fastserve.pipeline.work.judging import read_arrays
from fastserve.search.candidate import Candidate
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.data import DEFAULT_TEXTS
from fastserve_converters.formats import FORMATS, Format
from fastserve_converters.worker.jobs import Jobs
from fastserve_device_tests.suite.target_process import check_variant
from fastserve_device_tests.targets import load_target
from fastserve_runtime.bundle.manifest import Variant
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.conformance.verdict import Outcome, Verdict
from fastserve_runtime.conformance.verification import verify_variant
from fastserve_runtime.engines import onnxruntime as onnxruntime_engine
from fastserve_runtime.sessions.batching import run_samples
from fastserve_runtime.sessions.session import Session
from fastserve_runtime.variants import usable_engine
from report import ROOT

sys.path.insert(0, str(ROOT / "tests"))
from checkpoints import save_checkpoint

FIRST_SEED = 60_000
"""The policies were set with other seeds, see `benchmarks/policies.py`."""
TARGETS = {"onnx": "onnx:cpu", "tflite": "tflite:xnnpack", "executorch": "executorch:xnnpack"}
FAMILIES = ("bert", "distilbert", "roberta", "albert")
KINDS = ("sentence", "classify", "hidden")
LENGTHS = (16, 24, 32, 48)
_TEXTS = 240
MIX: tuple[tuple[str, str, int], ...] = (
    ("onnx", "fp32", 4),
    ("onnx", "fp32-fused", 4),
    ("onnx", "fp16", 2),
    ("onnx", "int8-dynamic", 6),
    ("onnx", "int8-weight-only", 2),
    ("onnx", "int8-embedding-int4", 2),
    ("tflite", "fp32", 2),
    ("tflite", "int8-dynamic", 4),
    ("tflite", "int8-weight-only", 1),
    ("executorch", "fp32", 1),
    ("executorch", "int8-dynamic", 2),
)
"""Format, precision, and how many of 30 runs have it. ONNX is exported in the least time."""
_STRIDE = 7
"""Spreads the formats over the runs."""


@dataclass(frozen=True)
class Run:
    """What one run exports.

    Attributes:
        seed: everything comes from it.
        layers: of the transformer.
        length: most tokens of a text.
    """

    seed: int
    format: str
    precision: str
    family: str
    kind: str
    layers: int
    length: int


def planned(seed: int) -> Run:
    """Return the run of a seed."""
    chance = random.Random(seed)
    pairs = [(format_name, precision) for format_name, precision, count in MIX for _ in range(count)]
    format_name, precision = pairs[seed * _STRIDE % len(pairs)]
    return Run(
        seed,
        format_name,
        precision,
        chance.choice(FAMILIES),
        chance.choice(KINDS),
        chance.choice((1, 2, 3)),
        chance.choice(LENGTHS),
    )


def check_run(run: Run, folder: Path) -> list[Verdict]:
    """Make the model of a run and a bundle of it, and return what `verify` and `conform` say."""
    bundle, variant = _made(run, folder)
    target = load_target(TARGETS[run.format])
    with open_bundle(bundle) as opened:
        opened.check_integrity()
        verdicts = list(verify_variant(opened, opened.manifest.variant(variant)))
    return [*verdicts, *check_variant(bundle, variant, target)]


def honest_runs(count: int, folder: Path, first: int = FIRST_SEED) -> Iterator[dict[str, Any]]:
    """Do runs, and yield each as JSON: what it was, and every verdict that is not a PASS."""
    for seed in range(first, first + count):
        run, place = planned(seed), folder / str(seed)
        verdicts = check_run(run, place)
        shutil.rmtree(place, ignore_errors=True)
        others = [v for v in verdicts if v.outcome is not Outcome.PASS]
        yield {
            **asdict(run),
            "checks": len(verdicts),
            "alarms": [v.as_document() for v in others if v.outcome.is_failure],
            "not_run": sorted({v.check for v in others if not v.outcome.is_failure}),
        }


def _made(run: Run, folder: Path) -> tuple[Path, str]:
    """Export the model of a run into a bundle; return it with the variant's id."""
    options = {} if run.kind == "hidden" else {run.kind: True}
    checkpoint_folder = save_checkpoint(folder / "model", run.family, layers=run.layers, seed=run.seed, **options)
    checkpoint = read_checkpoint(checkpoint_folder)
    source = {
        "path": str(checkpoint_folder),
        "task": checkpoint.task,
        "length": run.length,
        "allow_pickle": False,
        "trust_remote_code": False,
    }
    jobs = Jobs()

    def do(job: str, **request: Any) -> Entry:
        out = folder / f"{job}-{request.get('precision', '')}"
        return Entry("", out, jobs.run({"job": job, "source": source, "out": str(out), **request}), {}, 0.0)

    reference = do(
        "reference", data=[str(_texts(run, folder))], text_column="text", label_column="label", seed=run.seed
    )
    do("program", reference=str(reference.folder))
    exporter: Format = FORMATS.load(run.format)
    settings = {"format": run.format, "reference": str(reference.folder), "assignment": None, "range_method": "min-max"}
    base = exporter.PRECISIONS[run.precision].base
    made = None if base is None else do("artifact", precision=base, base=None, **settings)
    artifact = do("artifact", precision=run.precision, base=None if made is None else str(made.folder), **settings)
    name = f"{run.format}-{run.precision}"
    candidate = Candidate(
        name,
        run.format,
        run.precision,
        folder=artifact.folder,
        artifact=artifact.result,
        outputs=folder / "outputs.npz",
    )
    _record(candidate, reference, checkpoint, folder)
    return folder / "honest.fsb", name


def _record(candidate: Candidate, reference: Entry, checkpoint: Any, folder: Path) -> None:
    """Write the bundle twice: to read its manifest, and with the outputs that the variant it tells of gives."""
    assert candidate.outputs is not None
    inputs, expected = (read_arrays(reference.folder / f"{name}.npz") for name in ("inputs", "reference"))
    np.savez(candidate.outputs, **expected)
    source = ModelSource(checkpoint.root, "honest", None)
    for is_last in (False, True):
        manifest, files = bundle_content([candidate], reference, checkpoint, source)
        write_bundle(folder / "honest.fsb", manifest, files, {}, force=True)
        if not is_last:
            with open_bundle(folder / "honest.fsb") as opened:
                variant = opened.manifest.variants[0]
            file = folder / "honest.fsb" / next(iter(variant.graphs.values())).file
            with _elsewhere(variant, file) as session:
                outputs: dict[str, Any] = dict(run_samples(session, inputs))
            np.savez(candidate.outputs, **outputs)


def _elsewhere(variant: Variant, file: Path) -> Session:
    """Open a variant in another setting of its engine than that which is checked."""
    if variant.format == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        opened = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        signatures = {name: graph.signature for name, graph in variant.graphs.items()}
        return onnxruntime_engine.OnnxRuntimeSession(opened, signatures, 1)
    threads = 2 if variant.format == "tflite" else 1
    return usable_engine(variant).open_session(file, variant.graphs, threads=threads)


def _texts(run: Run, folder: Path) -> Path:
    """Write the texts of a run: some of those that ship with the converters."""
    rows = [json.loads(line)["text"] for line in DEFAULT_TEXTS.read_text(encoding="utf-8").splitlines()]
    chosen = random.Random(run.seed).sample(rows, min(_TEXTS, len(rows)))
    file = folder / "texts.jsonl"
    file.write_text("\n".join(json.dumps({"text": text}) for text in chosen) + "\n", encoding="utf-8")
    return file
