"""The process of one variant: opens the model with the runtime's engine, and runs and times it when it is told.

Started as `python -m quantized.child`; reads a request a line from standard input, answers a line each. Nothing else
runs in it, so that engines cannot disturb each other and memory and CPU time are the variant's own.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastserve_runtime.bundle.manifest import Graph
from fastserve_runtime.bundle.signatures import parse_signature
from fastserve_runtime.engines import installed_engine
from fastserve_runtime.parsing import Fields
from fastserve_runtime.sessions.lengths import Fit, cut, full_graph, graph_for, own_tokens
from fastserve_runtime.sessions.session import Session

WARM_UP = 2
MAX_SECONDS = 1.0
"""No further call begins after so long, so that a slow variant does not make up most of a round."""
Arrays = Mapping[str, np.ndarray]


class Model:
    """An opened variant."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        engine = installed_engine(request["format"], request["engine"])
        graphs = request["graphs"]
        document = None if graphs is None else {name: _graph(name, value) for name, value in graphs.items()}
        started = time.perf_counter()
        self.session: Session = engine.open_session(Path(request["file"]), document, threads=1)
        self.load_seconds = time.perf_counter() - started
        self.version = engine.version()

    def prepared(self, row: Arrays) -> Callable[[], Mapping[str, np.ndarray]]:
        """Return what runs one sample, cut to its own tokens where the model can take it so.

        Cutting and changing types is left out of the timing, for all variants alike.
        """
        graphs = self.session.graphs
        fit = graph_for(graphs, int(own_tokens(row)[0])) or Fit(full_graph(graphs), row["input_ids"].shape[1])
        own = cut(row, self.session.graphs[fit.graph], fit.tokens)
        inputs = {}
        for spec in graphs[fit.graph].inputs:
            # Old exports ask for token types: the first, for all tokens.
            value = own[spec.name] if spec.name in own else np.zeros_like(own["input_ids"])
            inputs[spec.name] = np.ascontiguousarray(value.astype(spec.dtype))
        run = self.session.run
        return lambda: run(inputs, graph=fit.graph)

    def evaluate(self, inputs: Arrays, out: Path) -> None:
        """Run every sample at its own length and keep the outputs; token vectors are pooled into unit vectors."""
        outputs = []
        for index in range(len(inputs["input_ids"])):
            row = _row(inputs, index)
            value = next(iter(self.prepared(row)().values())).astype(np.float32)
            if value.ndim == 3:
                mask = row["attention_mask"][:, : value.shape[1], None]
                value = (value * mask).sum(1) / mask.sum(1)
                value /= np.linalg.norm(value, axis=1, keepdims=True)
            outputs.append(value)
        np.savez(out, output=np.concatenate(outputs))

    def times(self, inputs: Arrays, rows: list[int], calls: int) -> dict[str, list[float]]:
        """Time calls, taking rows in turn; seconds of the clock and of the process's CPU."""
        prepared = [self.prepared(_row(inputs, row)) for row in rows]
        began = time.perf_counter()
        for number in range(WARM_UP):
            prepared[number % len(rows)]()
            if time.perf_counter() - began > MAX_SECONDS / 2:
                break
        wall: list[float] = []
        cpu: list[float] = []
        for number in range(calls):
            if sum(wall) > MAX_SECONDS:
                break
            call = prepared[number % len(rows)]
            started, cpu_started = time.perf_counter(), time.process_time()
            call()
            cpu_ended, ended = time.process_time(), time.perf_counter()
            wall.append(ended - started)
            cpu.append(cpu_ended - cpu_started)
        return {"wall": wall, "cpu": cpu}


def _row(inputs: Arrays, index: int) -> dict[str, np.ndarray]:
    return {name: value[index : index + 1] for name, value in inputs.items()}


def _graph(name: str, document: Mapping[str, Any]) -> Graph:
    fields = Fields(document, name)
    return Graph(fields.text("file"), fields.text("entry"), parse_signature(fields))


def _read(file: str) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def main() -> None:
    """Answer requests until the input ends."""
    # Engines print to standard output; answers go to a copy of it.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    model: Model | None = None
    inputs: dict[str, dict[str, np.ndarray]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any] = {}
        try:
            if request["do"] == "open":
                model = Model(request)
                inputs = {name: _read(file) for name, file in request["inputs"].items()}
                answer = {"version": model.version, "load_seconds": model.load_seconds}
            elif request["do"] == "evaluate":
                assert model is not None
                model.evaluate(inputs[request["inputs"]], Path(request["out"]))
            else:
                assert model is not None
                answer = model.times(inputs[request["inputs"]], request["rows"], request["calls"])
        except Exception as error:  # whatever an engine does; the parent prints it
            answer = {"failure": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
