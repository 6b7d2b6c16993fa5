"""Recording what a variant computes inside on a target: sample after sample to disk, in a process of its own.

A run opens the model with some tensors as further outputs, and writes one file for each
sample (`fastserve_runtime.conformance.recorded_samples`), of which nothing stays in memory; the tensors' values are
real numbers. A decoder's samples are traces, whose tokens it takes at once, with nothing before them; where no tensors
are asked for, it also follows them step by step, and what it gives then is among the outputs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_device_tests.intermediates import INTERMEDIATES, Instrumented, Intermediates
from fastserve_device_tests.processes.target_child import ask_target
from fastserve_device_tests.targets import Target, load_target
from fastserve_runtime.bundle.axes import HEADS
from fastserve_runtime.bundle.manifest import Graph, Variant
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.bundle.tensor_specs import Signature, TensorSpec
from fastserve_runtime.conformance.recorded_samples import INPUT, OUTPUT, TENSOR, sample_file
from fastserve_runtime.errors import EnvironmentFailure, FastServeError
from fastserve_runtime.generation.shared_cache import INPUT_IDS, SharedCacheDecoder, has_shared_cache, whole_call
from fastserve_runtime.generation.traces import fed_at_once, run_traces, traces
from fastserve_runtime.measurement.memory import read_memory
from fastserve_runtime.processes.answering import answer_requests
from fastserve_runtime.processes.child import ChildEnded
from fastserve_runtime.sessions.lengths import MASK, cut, graph_for, own_tokens, takes_tokens
from fastserve_runtime.sessions.sample_axes import as_call
from fastserve_runtime.sessions.session import ModelSource, Session
from fastserve_runtime.variants import checked_model

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Tensors

_DONE = "run.json"


@dataclass(frozen=True)
class Run:
    """What one opening of the model should give.

    Attributes:
        name: of the folder that its samples go to.
        tensors: names of tensors from inside.
        model: a file that takes the place of the variant's own.
        only: numbers of the samples that are run; None for all.
    """

    name: str
    tensors: tuple[str, ...] = ()
    model: Path | None = None
    only: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Recording:
    """What a run gave.

    Attributes:
        folder: where its samples are.
        tensors: number of a tensor in the run → its name, for those that could be read.
        failure: why there are no samples; empty where there are.
        peak: bytes that its process held in memory at most, where that is known.
    """

    folder: Path
    tensors: Mapping[int, str]
    failure: str = ""
    peak: int | None = None


def record(
    bundle: Path,
    variant: str,
    target: Target,
    samples: Path,
    runs: Sequence[Run],
    out: Path,
    padded: Sequence[int] = (),
) -> list[Recording]:
    """Record in a child process; where it crashes or hangs, the runs that it did not end have a failure.

    Args:
        bundle: its directory or zip file.
        variant: the id of one that the target takes.
        target: what executes it.
        samples: an `.npz` file of inputs by name, shape [samples, ...].
        runs: what is wanted.
        out: a folder for what is recorded.
        padded: numbers of samples that keep their padding where the model could do without.

    Raises:
        EnvironmentFailure: the target cannot run on this machine.
    """
    needs = target.needs()
    missing = needs.missing()
    if missing:
        problem = f"{target.NAME} cannot run here: {' and '.join(missing)} is missing."
        raise EnvironmentFailure(problem, f"{'; '.join(dict.fromkeys(missing.values()))}.")
    out.mkdir(parents=True, exist_ok=True)
    request = {
        "bundle": str(bundle.absolute()),
        "variant": variant,
        "target": target.NAME,
        "samples": str(samples.absolute()),
        "out": str(out.absolute()),
        "padded": list(padded),
        "runs": [_run_document(run) for run in runs],
    }
    died = ""
    try:
        ask_target(needs, "suite.recording", request)
    except ChildEnded as ended:
        died = f"the process {ended.told}"
    return [_read_recording(out / run.name, died) for run in runs]


def _run_document(run: Run) -> dict[str, Any]:
    return {
        "name": run.name,
        "tensors": list(run.tensors),
        "model": None if run.model is None else str(run.model.absolute()),
        "only": run.only,
    }


def _read_recording(folder: Path, died: str) -> Recording:
    try:
        answer = json.loads((folder / _DONE).read_text())
    except FileNotFoundError:
        return Recording(folder, {}, died)
    return Recording(folder, {int(n): t for n, t in answer["tensors"].items()}, answer["failure"], answer["peak"])


def answer(request: Mapping[str, Any], arrays: Tensors) -> tuple[dict[str, Any], Tensors]:  # noqa: ARG001 -- has none
    """Do the runs of a request, in the target's process; each leaves a file that says what came of it."""
    import numpy as np

    target = load_target(request["target"])
    with open_bundle(request["bundle"]) as bundle, np.load(request["samples"], allow_pickle=False) as samples:
        variant = bundle.manifest.variant(request["variant"])
        inputs = {name: samples[name] for name in samples.files}
        for run in request["runs"]:
            folder = Path(request["out"], run["name"])
            folder.mkdir(parents=True, exist_ok=True)
            tensors: Mapping[int, str] = {}
            failure = ""
            try:
                model = checked_model(bundle, variant) if run["model"] is None else Path(run["model"])
                rows = _rows(inputs, run["only"])
                tensors = _record_run(target, variant, model, run["tensors"], rows, folder, request["padded"])
            except FastServeError as error:
                failure = str(error)
            (folder / _DONE).write_text(
                json.dumps({"tensors": tensors, "failure": failure, "peak": read_memory().peak})
            )
    return {}, {}


def _rows(inputs: Tensors, only: Sequence[int] | None) -> Iterator[tuple[int, Tensors]]:
    count = len(next(iter(inputs.values())))
    for row in range(count) if only is None else only:
        yield row, {name: value[row : row + 1] for name, value in inputs.items()}


def _record_run(
    target: Target,
    variant: Variant,
    model: ModelSource,
    tensors: Sequence[str],
    samples: Iterator[tuple[int, Tensors]],
    folder: Path,
    padded: Sequence[int],
) -> Mapping[int, str]:
    import numpy as np

    # Encoders have one graph, as have the decoders whose layer maps name what is inside.
    name, graph = next(iter(variant.graphs.items()))
    is_decoder = has_shared_cache(graph.signature)
    module: Intermediates = INTERMEDIATES.load(variant.format)
    found = module.instrumented(model, graph.entry, tensors)
    numbers = {number: tensor for number, tensor in enumerate(tensors) if tensor in found.outputs}
    graphs, outputs_inside = {name: _with_outputs(graph, found)}, found.outputs
    engine = target.engine(variant)
    opened = _on_disk(found.model, folder / f"model{Path(graph.file).suffix}")
    del found, model  # engines take models from files in less memory
    with engine.open_session(opened, graphs, threads=1) as session:
        for row, sample in samples:
            signature = session.graphs[name]
            if is_decoder:
                given, call = decoder_call(signature, sample)
            else:
                given = dict(sample) if row in padded else fitted(session, sample)
                call = as_call(given, signature)
            outputs = session.run(call)
            arrays: dict[str, Any] = {f"{INPUT}{n}": value for n, value in given.items()}
            arrays |= {f"{OUTPUT}{s.name}": outputs[s.name] for s in graph.signature.outputs if HEADS not in s.axes}
            for number, tensor in numbers.items():
                inside = outputs_inside[tensor]
                arrays[f"{TENSOR}{number}"] = inside.real(outputs[inside.name])
            if is_decoder and not tensors:
                arrays |= {f"{OUTPUT}{n}": v for n, v in run_traces(SharedCacheDecoder(session), sample).items()}
            np.savez(sample_file(folder, row), **arrays)
    return numbers


def decoder_call(signature: Signature, sample: Tensors) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a reference gets of a trace, and the call of a decoder's graph that takes the same at once.

    Args:
        signature: of a graph with a shared cache.
        sample: one trace (`fastserve_runtime.generation.traces`).
    """
    (trace,) = traces(sample)
    tokens = fed_at_once(trace)
    return {INPUT_IDS: tokens[None].astype("int64")}, whole_call(signature, tokens.tolist())


def _on_disk(model: ModelSource, place: Path) -> Path:
    if isinstance(model, Path):
        return model
    place.write_bytes(model)
    return place


def _with_outputs(graph: Graph, found: Instrumented) -> Graph:
    """Return a graph whose signature has the further outputs; of what shape they are, nobody knows."""
    own = {spec.name for spec in graph.signature.outputs}
    added = {
        o.name: TensorSpec(o.name, o.dtype, (), has_known_dims=False)
        for o in found.outputs.values()
        if o.name not in own
    }
    signature = Signature(graph.signature.inputs, (*graph.signature.outputs, *added.values()))
    return replace(graph, signature=signature)


def fitted(session: Session, sample: Tensors) -> dict[str, Any]:
    """Return one sample as a session gets it: without padding, where it can do without."""
    names = {spec.name for signature in session.graphs.values() for spec in signature.inputs}
    taken = {name: value for name, value in sample.items() if name in names}
    if not takes_tokens(session.graphs):
        return taken
    fit = graph_for(session.graphs, int(own_tokens(taken)[0]))
    width = int(taken[MASK].shape[1])
    return cut(taken, session.graphs[fit.graph], fit.tokens) if fit is not None and fit.tokens <= width else taken


if __name__ == "__main__":
    sys.exit(answer_requests(answer))
