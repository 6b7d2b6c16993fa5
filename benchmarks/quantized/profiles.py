"""Where a variant's time goes, by operator, from its engine's own profiler.

ONNX Runtime's profiler, LiteRT's profiler and ExecuTorch's event tracer.

Run as `python -m quantized.profiles REQUEST.json`, since profiling must not disturb what is timed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from quantized.variant import Variant

RUNS = 20
TOP = 10
Rows = list[dict[str, Any]]


def profile(variant: Variant, inputs: Path, environment: Mapping[str, str]) -> Rows | str:
    """Return the operators that take most time in one call, or why they are not known."""
    with tempfile.TemporaryDirectory() as folder:
        request = {
            "format": variant.format,
            "file": str(variant.file),
            "graphs": variant.graphs,
            "inputs": str(inputs),
            "out": f"{folder}/profile.json",
        }
        Path(folder, "request.json").write_text(json.dumps(request))
        command = [sys.executable, "-m", "quantized.profiles", f"{folder}/request.json"]
        done = subprocess.run(command, capture_output=True, text=True, env=dict(environment), check=False)
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        rows: Rows = json.loads(Path(request["out"]).read_text())
        return rows


def profile_onnx(file: Path, _: Any, inputs: Mapping[str, np.ndarray]) -> Rows:
    """Sum ONNX Runtime's kernel times by operator type."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_profiling = True
    options.profile_file_prefix = str(Path(tempfile.gettempdir()) / "quantization-benchmark")
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    types = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(float)": np.float32}
    zeros = np.zeros_like(inputs["input_ids"])
    fed = {i.name: inputs.get(i.name, zeros).astype(types[i.type]) for i in session.get_inputs()}
    for _ in range(RUNS):
        session.run(None, fed)
    trace = Path(session.end_profiling())
    events = json.loads(trace.read_text())
    trace.unlink()
    timed = [
        (e["args"]["op_name"], e["dur"] * 1e-6)
        for e in events
        if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")
    ]
    return _summed(timed)


def profile_executorch(file: Path, graphs: Mapping[str, Any], inputs: Mapping[str, np.ndarray]) -> Rows:
    """Sum the event tracer's times by operator, inside and outside delegates."""
    from fastserve_executorch import Program

    graph = max(graphs.values(), key=lambda g: str(g["inputs"][0]["dims"]))
    program = Program(file, threads=1, trace=True)
    values = [inputs[spec["name"]].astype(spec["dtype"]) for spec in graph["inputs"]]
    timed: list[tuple[str, float]] = []
    for _ in range(RUNS):
        program.run(graph["entry"], values)
        inside = {True: 0.0, False: 0.0}
        for event in program.profile():
            seconds = event.microseconds * 1e-6
            if event.in_delegate:
                timed.append((re.sub(r"\s*#\d+$", "", event.name), seconds))
                inside[True] += seconds
            elif event.name == "DELEGATE_CALL":
                inside[False] += seconds
            elif event.operator and event.name.startswith("native_call"):
                timed.append((event.operator, seconds))
        timed.append(("not attributed inside delegates", max(0.0, inside[False] - inside[True])))
    return _summed(timed)


def profile_tflite(file: Path, _: Any, inputs: Mapping[str, np.ndarray]) -> Rows:
    """Sum LiteRT's times by operator, XNNPACK's among them."""
    from quantized.litert_profiler import ProfiledModel

    times = ProfiledModel(file).profile(inputs, RUNS)
    return _rows({t.operator: t.seconds for t in times}, {t.operator: float(t.calls) for t in times})


def _summed(timed: list[tuple[str, float]]) -> Rows:
    """Add up the times of `RUNS` runs by operator."""
    seconds: dict[str, float] = {}
    calls = Counter(name for name, _ in timed)
    for name, value in timed:
        seconds[name] = seconds.get(name, 0.0) + value / RUNS
    return _rows(seconds, {name: count / RUNS for name, count in calls.items()})


def _rows(seconds: Mapping[str, float], calls: Mapping[str, float]) -> Rows:
    """Return calls and time of one run by operator, longest first, the many small ones in one row."""
    total = sum(seconds.values())
    names = sorted(seconds, key=lambda name: -seconds[name])
    groups = [[name] for name in names[:TOP]] + ([names[TOP:]] if names[TOP:] else [])
    return [
        {
            "operator": group[0] if index < TOP else f"{len(group)} others",
            "calls": sum(calls[n] for n in group),
            "milliseconds": sum(seconds[n] for n in group) * 1e3,
            "share": sum(seconds[n] for n in group) / total if total else 0.0,
        }
        for index, group in enumerate(groups)
    ]


_PROFILERS: Mapping[str, Callable[[Path, Any, Mapping[str, np.ndarray]], Rows]] = {
    "onnx": profile_onnx,
    "executorch": profile_executorch,
    "tflite": profile_tflite,
}


def main() -> None:
    """Profile what the request file says."""
    request = json.loads(Path(sys.argv[1]).read_text())
    with np.load(request["inputs"]) as arrays:
        inputs = {name: arrays[name] for name in arrays.files}
    rows = _PROFILERS[request["format"]](Path(request["file"]), request["graphs"], inputs)
    Path(request["out"]).write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
