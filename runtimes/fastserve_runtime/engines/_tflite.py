"""What LiteRT and its forerunner tflite-runtime share: the interpreter's Python API is the same."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_runtime.bundle.manifest import Graph
from fastserve_runtime.bundle.tensor_specs import UNBOUNDED, Dim, Signature, SymbolicDim, TensorSpec
from fastserve_runtime.engines._tflite_buffers import BorrowedTensors
from fastserve_runtime.errors import BundleError
from fastserve_runtime.sessions.engine_logs import native_output_logged
from fastserve_runtime.sessions.named_session import NamedSession
from fastserve_runtime.sessions.session import Binding, ModelSource, Placement
from fastserve_runtime.sessions.tensors import check_shapes, select_graph

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Tensor

_MAGIC = b"TFL3"


def open_tflite(
    engine: str,
    interpreter_class: Any,
    model: ModelSource,
    graphs: Mapping[str, Graph] | None,
    *,
    threads: int,
    log: logging.Logger,
) -> TFLiteSession:
    """Load a TFLite model; a file is mapped into memory by the interpreter, content is copied.

    Args:
        engine: the engine's name and version, for messages: `litert 2.3.0`.
        interpreter_class: the library's `Interpreter`.
        model: see `Engine.open_session`; so are `graphs` and `threads`.
        graphs: the entry points.
        threads: how many threads one call may use.
        log: where the library's own words go.

    Raises:
        BundleError: the model is refused.
    """
    _check_magic(model)
    source = {"model_path": str(model)} if isinstance(model, Path) else {"model_content": bytes(model)}
    try:
        with native_output_logged(log):
            interpreter = interpreter_class(**source, num_threads=threads)
            interpreter.allocate_tensors()
            if graphs is None:
                entries = {name: name for name in interpreter.get_signature_list()}
                signatures = {name: _signature(interpreter, name) for name in entries}
            else:
                entries = {name: graph.entry for name, graph in graphs.items()}
                signatures = {name: graph.signature for name, graph in graphs.items()}
            session = TFLiteSession(engine.partition(" ")[0], interpreter, entries, signatures, threads)
    except (RuntimeError, ValueError) as error:
        raise BundleError(f"{engine} cannot load the model: {str(error).strip().rstrip('.')}.") from error
    if not entries:
        raise BundleError("The TFLite model has no signature.", "Export it with named signatures.")
    return session


class TFLiteSession(NamedSession):
    """A TFLite model with its signatures. An interpreter serves one thread at a time; other threads are refused."""

    def __init__(
        self,
        engine: str,
        interpreter: Any,
        entries: Mapping[str, str],
        graphs: Mapping[str, Signature],
        threads: int,
    ) -> None:
        super().__init__(graphs, threads)
        self.engine = engine
        self.interpreter = interpreter
        self._entries = entries
        self._runners = {name: interpreter.get_signature_runner(entry) for name, entry in entries.items()}
        self._borrowed: BorrowedTensors | None = None

    def _placement(self) -> Placement:
        return Placement(placed_operators(self.interpreter._get_ops_details()), f"{self.engine}'s execution plan")

    def borrow(
        self, shapes: Mapping[str, tuple[int, ...]], give_back: Callable[[], None], *, graph: str | None = None
    ) -> Binding:
        """Get the interpreter's own tensors as buffers; see `Session.borrow`."""
        name = select_graph(self._graphs, graph)
        with self._in_use():
            indices = self._own_tensors(name)
            if indices is not None:
                check_shapes(self._graphs[name], shapes)
                self._take_back()
                # A runner holds on to the interpreter's insides, which then refuses all else.
                self._runners = {}
                self._borrowed = BorrowedTensors(self, name, self.interpreter, *indices, shapes, give_back)
                return self._borrowed
        return super().borrow(shapes, give_back, graph=graph)

    def _own_tensors(self, graph: str) -> tuple[dict[str, int], dict[str, int]] | None:
        """Return the indices of a graph's inputs and outputs; None where only a runner knows which tensors they are."""
        signature = self._graphs[graph]
        inputs, outputs = (
            {detail["name"]: int(detail["index"]) for detail in details}
            for details in (self.interpreter.get_input_details(), self.interpreter.get_output_details())
        )
        are_known = inputs.keys() == {t.name for t in signature.inputs} and outputs.keys() >= {
            t.name for t in signature.outputs
        }
        return (inputs, outputs) if len(self._entries) == 1 and are_known else None

    def _take_back(self) -> None:
        if self._borrowed is not None:
            borrowed, self._borrowed = self._borrowed, None
            borrowed.end()

    def _runner(self, graph: str) -> Any:
        if graph not in self._runners:
            self._runners[graph] = self.interpreter.get_signature_runner(self._entries[graph])
        return self._runners[graph]

    def _execute(self, graph: str, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        self._take_back()
        outputs = self._runner(graph)(**inputs)
        return {spec.name: outputs[spec.name] for spec in self._graphs[graph].outputs}

    def _reset_state(self) -> None:
        self.interpreter.reset_all_variables()

    def _release(self) -> None:
        self._runners = {}
        self._borrowed = None
        self.interpreter = None


def placed_operators(operators: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Count operators by what executes them.

    The interpreter lists the replaced operators beside the `DELEGATE` nodes that replace them. A delegate executes what
    lies between its inputs and its outputs, so its partition is found by walking back from the outputs.

    Args:
        operators: `Interpreter._get_ops_details()`: each with `op_name`, `inputs` and `outputs` (tensor indices).
    """
    own, delegated = _own_and_delegated(operators)
    return {"XNNPACK": len(delegated), "LiteRT kernels": len(own) - len(delegated)}


def kernel_operators(operators: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the operators that no delegate executes; see `placed_operators`."""
    own, delegated = _own_and_delegated(operators)
    return [operator for index, operator in enumerate(own) if index not in delegated]


def _own_and_delegated(operators: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], set[int]]:
    """Return the operators of the model itself, and the places of those among them that a delegate executes."""
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
    return own, delegated


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
        int(d) if d >= 0 else SymbolicDim(f"{name}_{i}", 0, UNBOUNDED) for i, d in enumerate(detail["shape_signature"])
    ]
    return TensorSpec(name, np.dtype(detail["dtype"]).name, tuple(dims))
