"""What the kernels outside the delegates of an ExecuTorch program compute, by ExecuTorch's event tracer.

    python -m fastserve_device_tests.executors.event_trace MODEL SAMPLES OUT NUMBER...

It reads the program as it is. It needs ExecuTorch's official Python runtime, which brings PyTorch, so that it runs in a
process of its own. `SAMPLES` is the folder of a run that was recorded; see `recording`.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastserve_device_tests.processes.limited_process import begin_answer, run_limited
from fastserve_runtime.conformance.recorded_samples import INPUT, TENSOR, sample_file
from fastserve_runtime.errors import EnvironmentFailure

KERNELS = "kernels.json"
_BUFFER = 512 * 2**20
"""Bytes that the values of one call may take."""
_SECONDS, _MEMORY = 300.0, 8 * 2**30
_CALL = "native_call_"


def trace_events(model: Path, samples: Path, numbers: Sequence[int], out: Path) -> list[str]:
    """Write what kernels give on samples, `tensor/N` for the N-th call of a kernel; return the names of the kernels.

    Raises:
        EnvironmentFailure: ExecuTorch's official runtime and its developer tools are not there, or failed.
    """
    out.mkdir(parents=True, exist_ok=True)
    places = [str(path.absolute()) for path in (model, samples, out)]
    command = [sys.executable, "-m", "fastserve_device_tests.executors.event_trace", *places, *map(str, numbers)]
    ended = run_limited(command, {}, seconds=_SECONDS, memory=_MEMORY)
    if ended.code != 0 or ended.broken_limit is not None:
        words = ended.errors.decode(errors="replace").strip().splitlines() or [f"exit code {ended.code}"]
        raise EnvironmentFailure(f"ExecuTorch's event tracer failed: {ended.broken_limit or words[-1]}.")
    kernels: list[str] = json.loads((out / KERNELS).read_text())
    return kernels


def main(arguments: Sequence[str]) -> None:
    """Trace, in a process of its own."""
    import numpy as np

    begin_answer()
    model, samples, out = map(Path, arguments[:3])
    torch: Any = importlib.import_module("torch")
    library: Any = importlib.import_module("executorch.extension.pybindings.portable_lib")
    inspector: Any = importlib.import_module("executorch.devtools").Inspector
    # Registers the kernels of quantized embeddings.
    importlib.import_module("executorch.kernels.quantized")
    kernels: list[str] = []
    for number in map(int, arguments[3:]):
        program = library._load_for_executorch(str(model), enable_etdump=True, debug_buffer_size=_BUFFER)
        with np.load(sample_file(samples, number), allow_pickle=False) as sample:
            inputs = [torch.from_numpy(sample[name]) for name in sample.files if name.startswith(INPUT)]
        program.run_method("forward", tuple(inputs))
        events, values = out / "events.etdp", out / "values.bin"
        program.write_etdump_result_to_file(str(events), str(values))
        found = inspector(etdump_path=str(events), debug_buffer_path=str(values))
        calls = [e for block in found.event_blocks for e in block.events if e.name.startswith(_CALL) and e.debug_data]
        kernels = [call.name.removeprefix(_CALL) for call in calls]
        arrays: dict[str, Any] = {f"{TENSOR}{n}": call.debug_data[0].numpy() for n, call in enumerate(calls)}
        np.savez(sample_file(out, number), **arrays)
    (out / KERNELS).write_text(json.dumps(kernels))


if __name__ == "__main__":
    main(sys.argv[1:])
