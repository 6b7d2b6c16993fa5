"""Measures what fastserve-runtime adds to the bare engines, and what `.pte` gains over ExecuTorch's own Python runtime.

Run by `make bench`. In one run on one machine, everything alternating:

- importing the runtime, against the bare interpreter;
- fresh processes with MiniLM (int8-dynamic, 64 tokens, 1 thread): time to the first result, peak memory;
- installed size: the files of the packages that each needs, with all their dependencies;
- the time of a call: a model of microseconds, and MiniLM, against the bare engine;
- memory over 100,000 calls and over 200 rounds of loading and closing.

Writes `benchmarks/results/runtime.json`, and what README.md and docs/measurements.md show of it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
from packaging.requirements import Requirement

import fastserve
import fastserve_runtime
from engine_calls import ENGINE_OF, Call, bare, bound, ours
from fastserve_runtime.measurement.machine import this_machine
from report import MEASUREMENTS, README, minilm, write_results
from small_model import WIDTH, write_small_models

FORMATS = ("onnx", "tflite", "executorch")
LENGTH = 64
CACHE = Path(__file__).parent.parent / "build" / "benchmarks"
RUNTIME = Path(fastserve_runtime.__file__).parent

# Formats differ in the names and the order of a bare file's inputs; their types tell them apart.
IDS = "{'int32': np.full((1, 64), 7, np.int32), 'float32': np.ones((1, 64), np.float32)}"
END = """
import time
now = time.monotonic()
status = open("/proc/self/status").read()
print(now, status.split("VmHWM:")[1].split()[0])
"""
OURS = f"""
import sys
import fastserve_runtime
session = fastserve_runtime.open_model(sys.argv[1], engine=sys.argv[2])
import numpy as np
(graph,) = session.graphs.values()
arrays = {IDS}
session.run({{spec.name: arrays[spec.dtype] for spec in graph.inputs}})
{END}"""
BARE_ONNX = f"""
import sys
import numpy as np
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
arrays = {IDS}
names = {{"tensor(int32)": "int32", "tensor(float)": "float32"}}
session.run(None, {{i.name: arrays[names[i.type]] for i in session.get_inputs()}})
{END}"""
BARE_TFLITE = f"""
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
runner = Interpreter(model_path=sys.argv[1], num_threads=1).get_signature_runner()
arrays = {IDS}
runner(**{{name: arrays[np.dtype(d["dtype"]).name] for name, d in runner.get_input_details().items()}})
{END}"""
OFFICIAL = f"""
import sys
import numpy as np
import torch
import executorch.kernels.quantized
from executorch.runtime import Runtime
torch.set_num_threads(1)
method = Runtime.get().load_program(sys.argv[1]).load_method("forward")
method.execute([torch.from_numpy(a) for a in {IDS}.values()])
{END}"""

NUMPY = f"import numpy{END}"

PACKAGES = {
    "numpy": [],
    "onnxruntime": ["onnxruntime"],
    "litert": ["ai-edge-litert"],
    "executorch": ["fastserve-executorch"],
    "executorch-official": ["executorch", "torch"],
}


def first_result(program: str, *arguments: str) -> tuple[float, int]:
    """Run a program in a fresh process; return seconds to its first result and its peak memory in bytes."""
    started = time.monotonic()
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    ended, peak = done.stdout.split()[-2:]
    return float(ended) - started, int(peak) * 1024


def measure_starts(models: dict[str, Path], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Measure fresh processes, alternating; the first round only fills the system's file cache."""
    programs: dict[str, tuple[str, ...]] = {
        "numpy": (NUMPY,),
        "onnx ours": (OURS, str(models["onnx"]), "onnxruntime"),
        "onnx bare": (BARE_ONNX, str(models["onnx"])),
        "tflite ours": (OURS, str(models["tflite"]), "litert"),
        "tflite bare": (BARE_TFLITE, str(models["tflite"])),
        "executorch ours": (OURS, str(models["executorch"]), "executorch"),
        "executorch official": (OFFICIAL, str(models["executorch"])),
    }
    found: dict[str, dict[str, list[float]]] = {name: {"seconds": [], "peak": []} for name in programs}
    for number in range(rounds + 1):
        print(f"start {number} of {rounds} ...", flush=True)
        for name, words in programs.items():
            seconds, peak = first_result(*words)
            if number:
                found[name]["seconds"].append(seconds)
                found[name]["peak"].append(peak)
    return found


def measure_import(rounds: int) -> list[float]:
    """Return how many seconds longer a process takes that imports the runtime than one that does nothing."""

    def seconds(code: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-I", "-c", code], check=True)
        return time.perf_counter() - started

    prepare = f"import sys; sys.path.insert(0, {str(RUNTIME.parent)!r})"
    seconds(f"{prepare}; import fastserve_runtime")
    return [seconds(f"{prepare}; import fastserve_runtime") - seconds(prepare) for _ in range(rounds)]


def installed_bytes(names: list[str]) -> int:
    """Return the size of the files of packages and of all that they require, numpy included."""
    pending, seen = [*names, "numpy"], set()
    total = 0
    while pending:
        name = pending.pop().lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        for file in found.files or []:
            path = Path(str(found.locate_file(file)))
            total += path.stat().st_size if path.is_file() and path.suffix != ".pyc" else 0
        for text in found.requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                pending.append(requirement.name)
    return total


def own_bytes() -> int:
    """Return the size of the runtime's own files, which an editable installation does not list."""
    files = (p for p in RUNTIME.rglob("*") if p.is_file() and p.suffix != ".pyc")
    return sum(p.stat().st_size for p in files)


def measure_calls(calls: dict[str, Call], blocks: int, calls_a_block: int) -> dict[str, dict[str, float]]:
    """Time calls in alternating blocks; return the median and p90 seconds of each."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(calls_a_block):
            call()
    for _ in range(blocks):
        for name, call in calls.items():
            for _ in range(calls_a_block):
                started = time.perf_counter_ns()
                call()
                seconds[name].append((time.perf_counter_ns() - started) / 1e9)
    return {
        name: {"p50": statistics.median(values), "p90": statistics.quantiles(values, n=10)[-1]}
        for name, values in seconds.items()
    }


def resident() -> int:
    """Return this process's resident memory in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def leak_check(format_name: str, file: str) -> dict[str, int]:
    """Call and load a small model again and again; return how many bytes the process grew after settling in."""
    arrays = [np.ones((1, WIDTH), np.float32)]
    call = ours(format_name, Path(file), arrays)
    for _ in range(10_000):
        call()
    before = resident()
    for _ in range(100_000):
        call()
    calls = resident() - before
    from fastserve_runtime import open_model

    before = 0
    for number in range(220):
        with open_model(file, engine=ENGINE_OF[format_name]) as session:
            session.warm_up()
        if number == 19:
            before = resident()
    return {"calls_100000": calls, "load_close_200": resident() - before}


def export_models(folder: Path) -> dict[str, Path]:
    """Export MiniLM's int8-dynamic variants and return their files by format."""
    bundle = folder / "minilm.fsb"
    result = fastserve.export(minilm(), bundle, keep="all", sequence_length=LENGTH, cache_dir=CACHE)
    chosen = [c for c in result.candidates if c.precision == "int8-dynamic"]
    return {c.format: next((bundle / "variants" / c.id).iterdir()) for c in chosen}


def run(rounds: int) -> dict[str, Any]:
    """Do the measurements and return them."""
    with tempfile.TemporaryDirectory() as folder:
        print("exporting MiniLM ...", flush=True)
        models, small = export_models(Path(folder)), write_small_models(Path(folder))
        results: dict[str, Any] = {
            "machine": str(this_machine()),
            "rounds": rounds,
            "import_seconds": measure_import(3 * rounds),
            "starts": measure_starts(models, rounds),
            "installed_bytes": {
                **{name: installed_bytes(packages) for name, packages in PACKAGES.items()},
                "fastserve-runtime": own_bytes(),
            },
            "calls": {},
            "leaks": {},
        }
        tokens = [np.full((1, LENGTH), 7, np.int32), np.ones((1, LENGTH), np.float32)]
        row = [np.ones((1, WIDTH), np.float32)]
        for format_name in FORMATS:
            print(f"calls of {format_name} ...", flush=True)
            makers = {"bare": bare, "ours": ours, "bound": bound}
            tiny = {name: make(format_name, small[format_name], row) for name, make in makers.items()}
            large = {name: make(format_name, models[format_name], tokens) for name, make in makers.items()}
            results["calls"][format_name] = {
                "small": measure_calls(tiny, 5 * rounds, 400),
                "minilm": measure_calls(large, 5 * rounds, 10),
            }
            print(f"leak check of {format_name} ...", flush=True)
            command = [sys.executable, __file__, "--leaks", format_name, str(small[format_name])]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            results["leaks"][format_name] = json.loads(done.stdout.splitlines()[-1])
    return results


def pages(results: Mapping[str, Any]) -> dict[Path, str]:
    """Return what each page shows of the results."""
    return {README: summary(results), MEASUREMENTS: table(results)}


def summary(results: Mapping[str, Any]) -> str:
    """Return what a fresh process costs."""
    starts = {
        name: (statistics.median(values["seconds"]), statistics.median(values["peak"]))
        for name, values in results["starts"].items()
    }
    sizes = results["installed_bytes"]
    lines = [
        f"all-MiniLM-L6-v2 int8, 64 tokens, 1 thread, {results['machine']}; medians of {results['rounds']} rounds.",
        "",
        "| in a fresh process | first result | peak memory | installed |",
        "|---|---|---|---|",
    ]
    rows = [
        ("Python and numpy, no model", "numpy", "numpy"),
        ("ONNX, fastserve-runtime", "onnx ours", "onnxruntime"),
        ("ONNX, bare ONNX Runtime", "onnx bare", "onnxruntime"),
        ("TFLite, fastserve-runtime", "tflite ours", "litert"),
        ("TFLite, bare LiteRT", "tflite bare", "litert"),
        ("ExecuTorch, fastserve-runtime", "executorch ours", "executorch"),
        ("ExecuTorch, its official Python runtime", "executorch official", "executorch-official"),
    ]
    for title, name, package in rows:
        seconds, peak = starts[name]
        size = sizes[package] + (sizes["fastserve-runtime"] if "ours" in name else 0)
        lines.append(f"| {title} | {seconds * 1e3:.0f} ms | {peak / 1e6:.0f} MB | {size / 1e6:.0f} MB |")
    official, light = starts["executorch official"], starts["executorch ours"]
    both = starts["numpy"][0]
    gain = (
        f"`.pte`: {official[0] / light[0]:.0f} times quicker to the first result than ExecuTorch's official Python "
        f"runtime ({(official[0] - both) / (light[0] - both):.0f} times beyond Python and numpy, which both need), "
        f"with {official[1] / light[1]:.1f} times less memory. Importing fastserve-runtime takes "
        f"{statistics.median(results['import_seconds']) * 1e3:.0f} ms."
    )
    return "\n".join([*lines, "", gain])


def table(results: Mapping[str, Any]) -> str:
    """Return what a fresh process costs, what a call costs, and what memory is left behind."""
    lines = [
        summary(results),
        "",
        "| one call | engine alone | ours | more | with `bind` | MiniLM: more |",
        "|---|---|---|---|---|---|",
    ]
    for format_name, calls in results["calls"].items():
        small, large = calls["small"], calls["minilm"]
        microseconds = {name: small[name]["p50"] * 1e6 for name in small}
        more = large["ours"]["p50"] / large["bare"]["p50"] - 1
        lines.append(
            f"| {format_name} | {microseconds['bare']:.1f} µs | {microseconds['ours']:.1f} µs "
            f"| {microseconds['ours'] - microseconds['bare']:+.1f} µs | {microseconds['bound']:.1f} µs | {more:+.1%} |"
        )
    leaks = "; ".join(
        f"{name} {values['calls_100000'] / 1e6:+.1f} MB and {values['load_close_200'] / 1e6:+.1f} MB"
        for name, values in results["leaks"].items()
    )
    lines += ["", f"Memory after 100,000 calls, and after 200 rounds of loading and closing: {leaks}."]
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark and write its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--leaks", nargs=2, metavar=("FORMAT", "FILE"), help="only the leak check of one format")
    arguments = parser.parse_args()
    if arguments.leaks:
        print(json.dumps(leak_check(*arguments.leaks)))
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    results = run(arguments.rounds)
    write_results("runtime", results, pages(results))
    print(table(results))


if __name__ == "__main__":
    main()
