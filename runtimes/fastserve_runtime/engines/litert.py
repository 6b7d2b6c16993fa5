"""LiteRT, formerly TensorFlow Lite, on the CPU with XNNPACK (package `ai-edge-litert`)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_runtime.engine_logs import native_output_logged
from fastserve_runtime.engines._distribution import installed_version
from fastserve_runtime.engines._named_session import NamedSession
from fastserve_runtime.errors import BundleError, EnvironmentFailure, UsageError
from fastserve_runtime.manifest import Dim, Graph, Signature, SymbolicDim, TensorSpec
from fastserve_runtime.session import ModelSource, Placement

if TYPE_CHECKING:
    from fastserve_runtime.session import Tensor

NAME = "litert"
FORMAT = "tflite"
INSTALL = "pip install ai-edge-litert"

_MAGIC = b"TFL3"
_LARGEST_DIM = 2**31 - 1
_logger = logging.getLogger(__name__)


def version() -> str | None:
    """Return the installed version of LiteRT."""
    return installed_version("ai-edge-litert")


def import_library() -> Any:
    """Import LiteRT and return its interpreter class; see `Engine.import_library`."""
    try:
        with native_output_logged(_logger):
            from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise EnvironmentFailure(f"LiteRT cannot be imported: {error}.", f"Install it: {INSTALL}.") from error
    return Interpreter


def open_session(model: ModelSource, graphs: Mapping[str, Graph] | None, *, threads: int) -> LiteRTSession:
    """Load a TFLite model; see `Engine.open_session`."""
    interpreter_class = import_library()
    _check_magic(model)
    source = {"model_path": str(model)} if isinstance(model, Path) else {"model_content": bytes(model)}
    try:
        with native_output_logged(_logger):
            interpreter = interpreter_class(**source, num_threads=threads)
            interpreter.allocate_tensors()
            if graphs is None:
                entries = {name: name for name in interpreter.get_signature_list()}
                signatures = {name: _signature(interpreter, name) for name in entries}
            else:
                entries = {name: graph.entry for name, graph in graphs.items()}
                signatures = {name: graph.signature for name, graph in graphs.items()}
            session = LiteRTSession(interpreter, entries, signatures, threads)
    except (RuntimeError, ValueError) as error:
        raise BundleError(f"LiteRT {version()} cannot load the model: {str(error).strip().rstrip('.')}.") from error
    if not entries:
        raise BundleError("The TFLite model has no signature.", "Export it with named signatures.")
    return session


class LiteRTSession(NamedSession):
    """A TFLite model with its signatures. An interpreter serves one thread at a time; other threads are refused."""

    engine = NAME

    def __init__(
        self, interpreter: Any, entries: Mapping[str, str], graphs: Mapping[str, Signature], threads: int
    ) -> None:
        super().__init__(graphs, threads)
        import threading

        self._interpreter = interpreter
        self._runners = {name: interpreter.get_signature_runner(entry) for name, entry in entries.items()}
        self._busy = threading.Lock()

    def _placement(self) -> Placement:
        return Placement(placed_operators(self._interpreter._get_ops_details()), "LiteRT's execution plan")

    def _execute(self, graph: str, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        if not self._busy.acquire(blocking=False):
            raise UsageError("A LiteRT session was called from two threads at once.", "Open one session a thread.")
        try:
            outputs = self._runners[graph](**inputs)
        finally:
            self._busy.release()
        return {spec.name: outputs[spec.name] for spec in self._graphs[graph].outputs}

    def _release(self) -> None:
        self._runners = {}
        self._interpreter = None


def placed_operators(operators: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Count operators by what executes them.

    LiteRT lists the replaced operators beside the `DELEGATE` nodes that replace them. A delegate executes what lies
    between its inputs and its outputs, so its partition is found by walking back from the outputs.

    Args:
        operators: `Interpreter._get_ops_details()`: each with `op_name`, `inputs` and `outputs` (tensor indices).
    """
    own = [o for o in operators if o["op_name"] != "DELEGATE"]
    producer = {int(t): i for i, o in enumerate(own) for t in o["outputs"]}
    delegated: set[int] = set()
    for delegate in (o for o in operators if o["op_name"] == "DELEGATE"):
        given = {int(t) for t in delegate["inputs"]}
        pending = [int(t) for t in delegate["outputs"]]
        while pending:
            tensor = pending.pop()
            index = producer.get(tensor)
            if tensor in given or index is None or index in delegated:
                continue
            delegated.add(index)
            pending.extend(int(t) for t in own[index]["inputs"])
    return {"XNNPACK": len(delegated), "LiteRT kernels": len(own) - len(delegated)}


def _check_magic(model: ModelSource) -> None:
    if isinstance(model, Path):
        with model.open("rb") as file:
            head = file.read(8)
    else:
        head = bytes(model[:8])
    if head[4:8] != _MAGIC:
        raise BundleError("The file is not a TFLite model: it lacks the identifier 'TFL3'.")


def _signature(interpreter: Any, name: str) -> Signature:
    runner = interpreter.get_signature_runner(name)
    inputs, outputs = runner.get_input_details(), runner.get_output_details()
    return Signature(
        tuple(_tensor(key, detail) for key, detail in inputs.items()),
        tuple(_tensor(key, detail) for key, detail in outputs.items()),
    )


def _tensor(name: str, detail: Mapping[str, Any]) -> TensorSpec:
    import numpy as np

    dims: list[Dim] = [
        int(d) if d >= 0 else SymbolicDim(f"{name}_{i}", 0, _LARGEST_DIM)
        for i, d in enumerate(detail["shape_signature"])
    ]
    return TensorSpec(name, np.dtype(detail["dtype"]).name, tuple(dims))
