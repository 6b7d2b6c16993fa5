"""Measuring a model: load, first call, latency, memory, placement.

`measured_model` is what both `fastserve export` and `fastserve-runtime bench` measure with. The export calls it in a
process of its own that has only the runtime:

    python -m fastserve_runtime.measurement.measuring [--debug]

A request (`processes.child`) names the model, its graphs, inputs (`.npz`) and where the outputs go. The process loads
the model, times single calls, reads its memory, and then runs every sample.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_runtime.bundle.manifest import Graph, parse_graphs
from fastserve_runtime.engines import installed_engine
from fastserve_runtime.errors import is_disk_full
from fastserve_runtime.measurement.latency import MAX_SECONDS, MIN_SECONDS, measure_latency
from fastserve_runtime.measurement.machine import this_machine
from fastserve_runtime.measurement.measurement import (
    FirstToken,
    Measurement,
    SampleLatency,
    measurement_document,
    memory_between,
)
from fastserve_runtime.measurement.memory import read_memory
from fastserve_runtime.processes.answering import answer_requests
from fastserve_runtime.sessions.workload import FirstTokenCall, Workload, open_workload

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Engine, ModelSource, Tensors


FIRST_TOKEN_PATIENCE = 2.0
"""By what the time to the first token is given more seconds than a single call: its calls take long."""
_IMPORT_SECONDS: dict[str, float] = {}


@dataclass(frozen=True)
class MeasuredModel:
    """A model that was measured and is still open.

    Attributes:
        measurement: what was measured.
        workload: runs the model on its inputs.
    """

    measurement: Measurement
    workload: Workload


@contextmanager
def measured_model(
    task: str,
    engine: Engine,
    model: ModelSource,
    graphs: Mapping[str, Graph],
    inputs: Tensors,
    *,
    threads: int,
    timed_samples: int | None = None,
    min_seconds: float = MIN_SECONDS,
    max_seconds: float = MAX_SECONDS,
) -> Iterator[MeasuredModel]:
    """Measure a model in this process and keep it open inside the block.

    Memory is read before the model is loaded and after the timed calls, so that neither the samples' outputs nor their
    inputs count as the model's.

    Args:
        task: says which calls count; see `workload`.
        engine: what runs it.
        model: the model file, or its content.
        graphs: its entry points; the one for the longest inputs is timed.
        inputs: by name, samples along the first axis.
        threads: how many threads one call may use.
        timed_samples: the timed calls take the first so many samples in turn; all if left out.
        min_seconds: time calls for at least so long.
        max_seconds: stop after this.

    Raises:
        BundleError: the engine refuses the model.
        EnvironmentFailure: the engine cannot be imported or failed.
    """
    imported = import_seconds(engine)
    before = read_memory()
    started = time.perf_counter()
    session = engine.open_session(model, graphs, threads=threads)
    loaded = time.perf_counter()
    with session:
        workload = open_workload(task, session, inputs, timed_samples)
        called = time.perf_counter()
        workload.run(0)
        first = time.perf_counter()
        latency = measure_latency(workload.run, min_seconds=min_seconds, max_seconds=max_seconds)
        prompt = workload.first_token()
        first_token = None if prompt is None else measured_first_token(prompt, min_seconds, max_seconds)
        after = read_memory()
        measurement = Measurement(
            machine=this_machine(),
            engine=engine.NAME,
            engine_version=engine.version(),
            threads=threads,
            brings_pytorch="torch" in sys.modules,
            import_seconds=imported,
            load_seconds=loaded - started,
            first_inference_seconds=first - called,
            memory=memory_between(before, after),
            latency=latency,
            items_per_second=1 / max(latency.mean, 1e-12),
            placement=session.placement(),
            first_token=first_token,
        )
        yield MeasuredModel(measurement, workload)


def measured_first_token(prompt: FirstTokenCall, min_seconds: float, max_seconds: float) -> FirstToken:
    """Time prompts to their first token, for about so long."""
    longest = FIRST_TOKEN_PATIENCE * max_seconds
    return FirstToken(prompt.prompt_tokens, measure_latency(prompt.call, min_seconds=min_seconds, max_seconds=longest))


def import_seconds(engine: Engine) -> float:
    """Import an engine's library, after numpy, and return the seconds that its first import in this process took."""
    import numpy as np  # noqa: F401 -- so that its time is not the engine's

    if engine.NAME not in _IMPORT_SECONDS:
        started = time.perf_counter()
        engine.import_library()
        _IMPORT_SECONDS[engine.NAME] = time.perf_counter() - started
    return _IMPORT_SECONDS[engine.NAME]


def answer(request: Mapping[str, Any], arrays: Tensors) -> tuple[dict[str, Any], Tensors]:  # noqa: ARG001 -- has none
    """Measure what a request says; a full disk is told as such.

    Raises:
        FastServeError: the model cannot be measured.
    """
    try:
        return {"measurement": measurement_document(measure(request))}, {}
    except Exception as error:
        if not is_disk_full(error):
            raise
        return {"is_disk_full": True}, {}


def measure(request: Mapping[str, Any]) -> Measurement:
    """Measure a model as the request says, and write its outputs."""
    import numpy as np

    with np.load(request["inputs"], allow_pickle=False) as file:
        inputs = {name: file[name] for name in file.files}
    with measured_model(
        request["task"],
        installed_engine(request["format"], request["engine"]),
        Path(request["model"]),
        parse_graphs(request["graphs"]),
        inputs,
        threads=request["threads"],
        timed_samples=request["timed_samples"],
        max_seconds=request.get("max_seconds", MAX_SECONDS),
    ) as measured:
        outputs, seconds = measured.workload.run_all()
    arrays: dict[str, Any] = dict(outputs)
    np.savez(request["outputs"], **arrays)
    return replace(measured.measurement, sample_latency=sample_latency(seconds))


def sample_latency(seconds: Sequence[float]) -> SampleLatency:
    """Return median and 90th percentile over the samples, each run once at its own length, in seconds."""
    import numpy as np

    p50, p90 = np.percentile(seconds, [50, 90])
    return SampleLatency(float(p50), float(p90), len(seconds))


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG if "--debug" in sys.argv else logging.WARNING, stream=sys.stderr)
    # Engines compute for long without letting other threads run, and start no processes.
    sys.exit(answer_requests(answer, starts_nothing=True))
