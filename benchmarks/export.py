"""Measures what an export costs over the bare converter calls, and what int8 gains over fp32. Run by `make bench`.

Three things, in one run on one machine:

- load and export: the time of our stages up to the last artifact, against the bare calls of PyTorch and the three
  converters in a fresh process, alternating, `--rounds` times each;
- the same export again from the cache;
- each format's int8 variant against its own fp32, one thread: medians over `--rounds` measurements, alternating.

Writes `benchmarks/results/export.json`, and what README.md and docs/measurements.md show of it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastserve_runtime.measurement.machine import this_machine
from report import MEASUREMENTS, README, minilm, write_results

FORMATS = ("onnx", "tflite", "executorch")
LENGTH = 64


def bare_calls(model: str, out: str) -> None:
    """Convert MiniLM with the libraries alone, as their documentation shows, on the same form of the model.

    Loading, `torch.export`, three converters and three int8 variants: what an export has to do at least.
    """
    folder = Path(out)
    import torch

    from fastserve_converters.checkpoints.model_loading import load_model
    from fastserve_converters.checkpoints.reading import read_checkpoint
    from fastserve_converters.models.encoder_inputs import example_inputs
    from fastserve_converters.models.exportable_model import build_exportable_model

    checkpoint = read_checkpoint(Path(model))
    module = build_exportable_model(load_model(checkpoint), checkpoint, LENGTH)
    example = example_inputs(LENGTH)
    program = torch.export.export(module, (), example)

    torch.onnx.export(
        program, (), kwargs=example, dynamo=True, external_data=False, verbose=False, opset_version=20
    ).save(str(folder / "fp32.onnx"))
    from onnxruntime.quantization import QuantType, quantize_dynamic

    onnx_files = str(folder / "fp32.onnx"), str(folder / "int8.onnx")
    quantize_dynamic(*onnx_files, per_channel=True, weight_type=QuantType.QInt8)

    import litert_torch
    from ai_edge_quantizer import quantizer, recipe

    litert_torch.convert(module, sample_kwargs=example).export(str(folder / "fp32.tflite"))
    tool = quantizer.Quantizer(str(folder / "fp32.tflite"))
    tool.load_quantization_recipe(recipe.dynamic_wi8_afp32())
    tool.quantize().export_model(str(folder / "int8.tflite"), overwrite=True)

    import executorch.kernels.quantized  # noqa: F401
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from executorch.exir import to_edge_transform_and_lower
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
    (folder / "fp32.pte").write_bytes(lowered.buffer)
    settings = XNNPACKQuantizer()
    settings.set_operator_type(
        torch.ops.aten.linear.default, get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True)
    )
    prepared = prepare_pt2e(program.module(check_guards=False), settings)
    with torch.no_grad():
        prepared(**example)
    again = torch.export.export(convert_pt2e(prepared), (), example)
    lowered = to_edge_transform_and_lower(again, partitioner=[XnnpackPartitioner()]).to_executorch()
    (folder / "int8.pte").write_bytes(lowered.buffer)


def timed_bare_calls(model: Path) -> float:
    """Return the seconds of the bare calls in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        command = [sys.executable, __file__, "--bare", str(model), folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return time.perf_counter() - started


def fastserve_export(model: Path, cache: Path, *words: str) -> tuple[dict[str, Any], float]:
    """Export with the command line; return its JSON document and the seconds of the whole command."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "fastserve", "export", str(model), "-o", f"{folder}/x.fsb", "--json"]
        started = time.perf_counter()
        done = subprocess.run(
            [*command, "--cache-dir", str(cache), "--keep", "all", *words], check=True, capture_output=True, text=True
        )
        return json.loads(done.stdout), time.perf_counter() - started


def load_and_export_seconds(document: dict[str, Any]) -> float:
    """Return the time of loading and exporting; measuring and judging quality apart."""
    names = ("Load model", "Form for export", "Export ")
    return sum(s["seconds"] for s in document["stages"] if s["stage"].startswith(names))


def run(rounds: int) -> dict[str, Any]:
    """Do the measurements and return them."""
    model = minilm()
    ours, bare, reference, cached = [], [], [], []
    p50: dict[str, list[float]] = {}
    p90: dict[str, list[float]] = {}
    warnings: dict[str, list[str]] = {}
    quality: dict[str, float] = {}
    size: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        for number in range(rounds):
            shutil.rmtree(cache, ignore_errors=True)
            print(f"round {number + 1} of {rounds}: bare calls ...", flush=True)
            bare.append(timed_bare_calls(model))
            print(f"round {number + 1} of {rounds}: fastserve export ...", flush=True)
            document, _ = fastserve_export(model, cache)
            ours.append(load_and_export_seconds(document))
            reference.append(next(s["seconds"] for s in document["stages"] if s["stage"] == "Reference outputs"))
            cached.append(fastserve_export(model, cache)[1])
            for variant in document["variants"]:
                latency = variant["measurement"]["latency"]
                p50.setdefault(variant["id"], []).append(latency["p50"])
                p90.setdefault(variant["id"], []).append(latency["p90"])
                warnings.setdefault(variant["id"], []).extend(latency["warnings"])
                quality[variant["id"]] = variant["quality"]["value"]
                size[variant["id"]] = variant["size"]
    speedup = {f: statistics.median(p50[f"{f}-fp32"]) / statistics.median(p50[f"{f}-int8-dynamic"]) for f in FORMATS}
    return {
        "machine": str(this_machine()),
        "rounds": rounds,
        "bare_seconds": bare,
        "load_and_export_seconds": ours,
        "reference_seconds": reference,
        "overhead_ratio": statistics.median(ours) / statistics.median(bare),
        "cached_seconds": cached,
        "p50_seconds": p50,
        "p90_seconds": p90,
        "warnings": warnings,
        "quality": quality,
        "size_bytes": size,
        "int8_speedup": speedup,
    }


def pages(results: Mapping[str, Any]) -> dict[Path, str]:
    """Return what each page shows of the results."""
    return {README: summary(results), MEASUREMENTS: table(results)}


def summary(results: Mapping[str, Any]) -> str:
    """Return what the whole costs, in a sentence."""
    bare, ours, cached = (
        statistics.median(results[name]) for name in ("bare_seconds", "load_and_export_seconds", "cached_seconds")
    )
    return (
        f"Loading and exporting all six: {ours:.0f} s, {results['overhead_ratio']:.2f} times the bare converter calls "
        f"({bare:.0f} s). The same export again, from the cache: {cached:.1f} s."
    )


def table(results: Mapping[str, Any]) -> str:
    """Return a row for each variant, and what the whole costs."""
    lines = [
        f"all-MiniLM-L6-v2, 64 tokens, 1 thread, {results['machine']}; medians of {results['rounds']} rounds.",
        "",
        "| variant | quality | size | p50 | p90 | speed against its fp32 |",
        "|---|---|---|---|---|---|",
    ]
    for name, values in results["p50_seconds"].items():
        p50 = statistics.median(values)
        p90 = statistics.median(results["p90_seconds"][name])
        base = statistics.median(results["p50_seconds"][f"{name.partition('-')[0]}-fp32"])
        lines.append(
            f"| {name} | {results['quality'][name]:.4f} | {results['size_bytes'][name] / 1e6:.1f} MB "
            f"| {p50 * 1e3:.1f} ms | {p90 * 1e3:.1f} ms | {base / p50:.1f}× |"
        )
    return "\n".join([*lines, "", summary(results)])


def main() -> None:
    """Run the benchmark and write its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bare", nargs=2, metavar=("MODEL", "FOLDER"), help="only the bare calls, for timing")
    arguments = parser.parse_args()
    if arguments.bare:
        bare_calls(*arguments.bare)
        return
    results = run(arguments.rounds)
    write_results("export", results, pages(results))
    print(table(results))


if __name__ == "__main__":
    main()
