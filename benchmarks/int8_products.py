"""Measures what ONNX Runtime makes of int8 weights on this machine: quality and latency by how they are limited.

`--prepare` writes the models, for which the converters are needed. Measuring needs ONNX Runtime, numpy and the runtime
package alone, so that the same files can be measured on machines with other instruction sets:

    PYTHONPATH=runtimes python benchmarks/int8_products.py FOLDER --out NAME.json

The quality is Spearman's correlation of the similarities of 300 texts with those of the model in fp32. Latencies are
of one thread, and of the texts cut to their own tokens (the median of all) and of 64 tokens; the ways take turns.
`sums` tells whether the processor's kernels lose sums of all eight bits at all.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from fastserve_runtime.conformance.metrics import row_cosines, similarity_spearman, sqnr_db
from fastserve_runtime.measurement.machine import this_machine
from products.ways import WAYS

Sample = dict[str, NDArray[Any]]


def main() -> None:
    """Prepare or measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of the models")
    parser.add_argument("--prepare", action="store_true", help="write the models there, and measure nothing")
    parser.add_argument("--out", type=Path, help="the JSON file; beside the models if left out")
    parser.add_argument("--rounds", type=int, default=15, help="of each latency")
    options = parser.parse_args()
    if options.prepare:
        from products.making import write_models

        write_models(options.folder)
        return
    results = {
        "machine": asdict(this_machine()),
        "onnxruntime": onnxruntime.__version__,
        "models": {
            f.parent.name: _measured(f.parent, options.rounds) for f in sorted(options.folder.glob("*/texts.npz"))
        },
    }
    out = options.out or options.folder / "int8_products.json"
    out.write_text(json.dumps(results, indent=1) + "\n")
    print(f"{this_machine()}, ONNX Runtime {onnxruntime.__version__}\n")
    print(table(results))


def table(results: dict[str, Any]) -> str:
    """Return the figures in Markdown."""
    head = (
        "| model | weights | Spearman | least cosine | SQNR | own length | 64 tokens |\n|---|---|---|---|---|---|---|"
    )
    rows = [
        f"| {model} | {WAYS[way]} | {f['spearman']:.4f} | {f['min_cosine']:.4f} | {f['sqnr_db']:.1f} dB "
        f"| {f['own_length_ms']:.2f} ms | {f['full_length_ms']:.2f} ms |"
        for model, ways in results["models"].items()
        for way, f in ways.items()
    ]
    return "\n".join([head, *rows])


def _measured(folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    with np.load(folder / "texts.npz") as arrays:
        expected = arrays["expected"]
        padded = [
            {"input_ids": ids[None], "attention_mask": mask[None]}
            for ids, mask in zip(arrays["input_ids"], arrays["attention_mask"], strict=True)
        ]
    cut = [_cut(sample) for sample in padded]
    sessions = {way: _open(folder / f"{way}.onnx") for way in WAYS if (folder / f"{way}.onnx").is_file()}
    found = {way: _quality(session, cut, expected) for way, session in sessions.items()}
    for name, samples in (("own_length_ms", cut), ("full_length_ms", padded[:20])):
        for way, seconds in _latencies(sessions, samples, rounds).items():
            found[way][name] = 1000 * seconds
    return found


def _quality(session: onnxruntime.InferenceSession, samples: list[Sample], expected: NDArray[Any]) -> dict[str, float]:
    outputs = np.concatenate([session.run(None, sample)[0] for sample in samples])
    return {
        "spearman": similarity_spearman(expected, outputs),
        "min_cosine": float(row_cosines(expected, outputs).min()),
        "sqnr_db": sqnr_db(expected, outputs),
    }


def _latencies(
    sessions: dict[str, onnxruntime.InferenceSession], samples: list[Sample], rounds: int
) -> dict[str, float]:
    """Return the seconds of a text: the least mean of all rounds, in which the ways take turns."""
    found: dict[str, list[float]] = {way: [] for way in sessions}
    for turn in range(rounds):
        ways = list(sessions)
        for way in ways if turn % 2 else reversed(ways):
            started = time.perf_counter()
            for sample in samples:
                sessions[way].run(None, sample)
            found[way].append((time.perf_counter() - started) / len(samples))
    return {way: min(seconds) for way, seconds in found.items()}


def _open(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _cut(sample: Sample) -> Sample:
    tokens = max(2, int(sample["attention_mask"].sum()))
    return {name: value[:, :tokens] for name, value in sample.items()}


if __name__ == "__main__":
    sys.exit(main())
