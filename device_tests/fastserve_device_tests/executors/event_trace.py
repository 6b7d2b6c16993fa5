"""What the kernels outside the delegates of an ExecuTorch program compute, by ExecuTorch's event tracer.

It reads the program as it is. It needs ExecuTorch's official Python runtime, which brings PyTorch, so that it runs in a
process of its own. `samples` is the folder of a run that was recorded; see `recording`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_device_tests.needs import Needs
from fastserve_device_tests.processes.target_child import ask_target
from fastserve_runtime.conformance.recorded_samples import INPUT, TENSOR, sample_file
from fastserve_runtime.errors import EnvironmentFailure
from fastserve_runtime.processes.answering import answer_requests
from fastserve_runtime.processes.child import ChildEnded

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Tensors

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
    places = {name: str(path.absolute()) for name, path in (("model", model), ("samples", samples), ("out", out))}
    needs = Needs(seconds=_SECONDS, memory=_MEMORY)
    try:
        kernels: list[str] = ask_target(needs, "executors.event_trace", {**places, "numbers": list(numbers)})["kernels"]
    except ChildEnded as ended:
        raise EnvironmentFailure(f"The process of ExecuTorch's event tracer {ended.told}.") from ended
    return kernels


def answer(request: Mapping[str, Any], arrays: Tensors) -> tuple[dict[str, Any], Tensors]:  # noqa: ARG001 -- has none
    """Trace, in a process of its own."""
    import numpy as np

    model, samples, out = (Path(request[name]) for name in ("model", "samples", "out"))
    torch: Any = importlib.import_module("torch")
    library: Any = importlib.import_module("executorch.extension.pybindings.portable_lib")
    inspector: Any = importlib.import_module("executorch.devtools").Inspector
    # Registers the kernels of quantized embeddings.
    importlib.import_module("executorch.kernels.quantized")
    kernels: list[str] = []
    for number in request["numbers"]:
        program = library._load_for_executorch(str(model), enable_etdump=True, debug_buffer_size=_BUFFER)
        with np.load(sample_file(samples, number), allow_pickle=False) as sample:
            inputs = [torch.from_numpy(sample[name]) for name in sample.files if name.startswith(INPUT)]
        program.run_method("forward", tuple(inputs))
        events, values = out / "events.etdp", out / "values.bin"
        program.write_etdump_result_to_file(str(events), str(values))
        found = inspector(etdump_path=str(events), debug_buffer_path=str(values))
        calls = [e for block in found.event_blocks for e in block.events if e.name.startswith(_CALL) and e.debug_data]
        kernels = [call.name.removeprefix(_CALL) for call in calls]
        values_of: dict[str, Any] = {f"{TENSOR}{n}": call.debug_data[0].numpy() for n, call in enumerate(calls)}
        np.savez(sample_file(out, number), **values_of)
    return {"kernels": kernels}, {}


if __name__ == "__main__":
    sys.exit(answer_requests(answer))
