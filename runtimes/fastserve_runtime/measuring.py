"""Measuring one artifact in a process of its own that has only the runtime.

    python -m fastserve_runtime.measuring REQUEST.json

The request names the model, its graphs, inputs (`.npz`) and where the result and the outputs go. The process loads the
model, times single calls, reads its memory, and then runs every sample.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_runtime.engines import installed_engine
from fastserve_runtime.errors import EXIT_OK, FastServeError
from fastserve_runtime.latency import MOST_SECONDS, Latency, measure_latency
from fastserve_runtime.machine import this_machine
from fastserve_runtime.manifest import Graph, parse_signature
from fastserve_runtime.memory import MemoryReading, read_memory
from fastserve_runtime.parsing import Fields

if TYPE_CHECKING:
    from fastserve_runtime.session import Session, Tensors


def main(arguments: list[str]) -> int:
    """Answer one request file; on a FastServeError the result holds its message and the exit code is its own."""
    logging.basicConfig(level=logging.DEBUG if "--debug" in arguments else logging.WARNING, stream=sys.stderr)
    request = json.loads(Path(arguments[0]).read_text())
    try:
        result: dict[str, Any] = {"measurement": measure(request)}
        code = EXIT_OK
    except FastServeError as error:
        result, code = {"problem": error.problem, "remedy": error.remedy}, error.exit_code
    Path(request["result"]).write_text(json.dumps(result))
    return code


def measure(request: Mapping[str, Any]) -> dict[str, Any]:
    """Measure a model as the request says and return the measurement's JSON fields.

    Memory is read before the model is loaded and after the timed calls, so that neither the samples' outputs nor their
    inputs count as the model's.
    """
    import numpy as np

    with np.load(request["inputs"], allow_pickle=False) as file:
        inputs = {name: file[name] for name in file.files}
    engine = installed_engine(request["format"], request["engine"])
    engine.import_library()
    before = read_memory()
    started = time.perf_counter()
    session = engine.open_session(Path(request["model"]), _graphs(request["graphs"]), threads=request["threads"])
    loaded = time.perf_counter()
    with session:
        rows = _Rows(session, inputs, request["timed_samples"])
        rows.run(0)
        first = time.perf_counter()
        latency = measure_latency(rows.run, most_seconds=request.get("most_seconds", MOST_SECONDS))
        after = read_memory()
        placement = session.placement()
        outputs = rows.run_all()
    np.savez(request["outputs"], **outputs)
    return {
        "machine": asdict(this_machine()),
        "engine": engine.NAME,
        "engine_version": engine.version(),
        "threads": request["threads"],
        "brings_pytorch": "torch" in sys.modules,
        "load_seconds": loaded - started,
        "first_inference_seconds": first - loaded,
        "memory": memory_fields(before, after),
        "latency": latency_fields(latency),
        "placement": {"operators": placement.operators, "source": placement.source},
    }


def memory_fields(before: MemoryReading, after: MemoryReading) -> dict[str, int | None]:
    """Return whole-process peak, and growth since before the load, anonymous and file-backed apart, in bytes."""
    return {
        "peak": after.peak,
        "anonymous_growth": _difference(before.anonymous, after.anonymous),
        "file_backed_growth": _difference(before.file_backed, after.file_backed),
    }


def latency_fields(latency: Latency) -> dict[str, Any]:
    """Return a latency's JSON fields, seconds."""
    return {**asdict(latency), "doubts": list(latency.doubts), "trustworthy": latency.is_trustworthy}


class _Rows:
    """Runs a model on rows of its inputs."""

    def __init__(self, session: Session, inputs: Tensors, timed: int) -> None:
        import numpy as np

        self._graph, signature = next(iter(session.graphs.items()))
        self._session = session
        names = [spec.name for spec in signature.inputs]
        count = len(inputs[names[0]])
        self._rows = [{n: np.ascontiguousarray(inputs[n][i : i + 1]) for n in names} for i in range(count)]
        self._timed = max(1, min(timed, count))

    def run(self, index: int) -> object:
        return self._session.run(self._rows[index % self._timed], graph=self._graph)

    def run_all(self) -> dict[str, Any]:
        import numpy as np

        outputs = [self._session.run(row, graph=self._graph) for row in self._rows]
        return {name: np.concatenate([o[name] for o in outputs]) for name in outputs[0]}


def _graphs(document: Mapping[str, Any]) -> dict[str, Graph]:
    graphs = {}
    for name, value in document.items():
        fields = Fields(value, name)
        graphs[name] = Graph(fields.text("file"), fields.text("entry"), parse_signature(fields))
    return graphs


def _difference(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
