"""TFLite Micro's interpreter, the one of microcontrollers, by its Python package (`tflite_micro`).

It has no signatures, no open shapes and fewer operators than LiteRT. Its memory is one arena, and it tells how much of
it a model takes.
"""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_device_tests.executors.not_opened import only_graph
from fastserve_device_tests.processes.native_words import native_words
from fastserve_runtime.bundle.manifest import Graph, Variant
from fastserve_runtime.bundle.tensor_specs import Signature, SymbolicDim
from fastserve_runtime.distributions import installed_version
from fastserve_runtime.errors import BundleError, EnvironmentFailure, one_line
from fastserve_runtime.sessions.engine_logs import native_output_logged
from fastserve_runtime.sessions.named_session import NamedSession
from fastserve_runtime.sessions.session import ModelSource, Placement

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Tensor

NAME = "TFLite Micro"
FORMAT = "tflite"
FAMILY = "tflite-micro"
INSTALL = "pip install --no-deps tflite-micro==0.dev20261023182759"

_MAGIC = b"TFL3"
_MIN_ARENA = 2**24
_ARENA_OF_FILE = 10
"""The arena is given ten times the file's size, as the package does, but at least 16 MiB."""
_LACKING = re.compile(r"Didn't find op for builtin opcode '(?P<operator>\w+)'")
_REFUSED = re.compile(r"Node (?P<operator>\w+) \(number (?P<number>\d+)f?\) failed to (?P<step>\w+)")
_USED = re.compile(r"Arena allocation total (?P<bytes>\d+) bytes")

_logger = logging.getLogger(__name__)


def version() -> str | None:
    """Return the installed version of TFLite Micro."""
    return installed_version("tflite-micro", "tflite_micro")


def import_library() -> Any:
    """Import TFLite Micro and return its module of the interpreter; see `Engine.import_library`."""
    try:
        with native_output_logged(_logger):
            return importlib.import_module("tflite_micro.python.tflite_micro.runtime")
    except ImportError as error:
        raise EnvironmentFailure(f"{NAME} cannot be imported: {one_line(error)}.", f"Install it: {INSTALL}.") from error


def lacking(variant: Variant) -> list[str]:  # noqa: ARG001 -- it tells only when it loads
    """Return none: which operators it lacks is known when it has loaded the model."""
    return []


def open_session(model: ModelSource, graphs: Mapping[str, Graph] | None, *, threads: int) -> TFLiteMicroSession:
    """Load a TFLite model; see `Engine.open_session`. Its one graph must be given, with fixed shapes."""
    name, graph = only_graph(NAME, graphs)
    runtime = import_library()
    content = model.read_bytes() if isinstance(model, Path) else bytes(model)
    if content[4:8] != _MAGIC:
        raise BundleError("The file is not a TFLite model: it lacks the identifier 'TFL3'.", "Export it again.")
    with native_words(_logger) as words:
        try:
            interpreter, error = _interpreter(runtime, content), None
        except Exception as failure:  # a RuntimeError, or what reading a damaged file ends with
            error = failure
    if error is not None:
        problem = f"{NAME} cannot load the model: {reason_of_refusal(words) or one_line(error)}."
        raise BundleError(problem, "Use tflite:xnnpack, or a model of simpler operators.") from error
    _check_shapes(graph.signature)
    places = _places(runtime, content, graph.entry)
    return TFLiteMicroSession(interpreter, places, {name: graph.signature}, threads)


class TFLiteMicroSession(NamedSession):
    """A model in TFLite Micro's interpreter."""

    engine = NAME

    def __init__(
        self, interpreter: Any, places: tuple[list[str], list[str]], graphs: Mapping[str, Signature], threads: int
    ) -> None:
        super().__init__(graphs, threads)
        self._interpreter = interpreter
        self._inputs, self._outputs = places
        self._used: int | None = None

    def _execute(self, graph: str, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        for place, name in enumerate(self._inputs):
            self._interpreter.set_input(inputs[name], place)
        with native_words(_logger) as words:
            try:
                failed, error = self._interpreter.invoke() != 0, None
            except RuntimeError as failure:
                failed, error = True, failure
        if failed:
            reason = reason_of_refusal(words) or (one_line(error) if error is not None else "it does not say why")
            raise EnvironmentFailure(f"{NAME} failed while running: {reason}.", "Use tflite:xnnpack.") from error
        # Outputs share the arena with all else, and the next call overwrites them.
        found = {name: self._interpreter.get_output(place).copy() for place, name in enumerate(self._outputs)}
        return {spec.name: found[spec.name] for spec in self.graphs[graph].outputs}

    def _placement(self) -> Placement:
        with native_words(_logger) as words:
            self._interpreter.print_allocations()
        used = next(filter(None, map(_USED.search, words)), None)
        arena = f"; they take {int(used['bytes']):,} bytes of its arena" if used is not None else ""
        return Placement(None, f"{NAME}'s own kernels execute all operators{arena}")

    def _reset_state(self) -> None:
        self._interpreter.reset()

    def _release(self) -> None:
        self._interpreter = None


def reason_of_refusal(words: Sequence[str]) -> str:
    """Return from what TFLite Micro printed why it cannot execute a model; empty where it does not tell.

    What a kernel itself says stands in the line before.
    """
    for place, line in enumerate(words):
        lacks, refused = _LACKING.search(line), _REFUSED.search(line)
        if lacks is not None:
            return f"it has no operator {lacks['operator']}"
        if refused is not None:
            said = words[place - 1].strip().rstrip(".") if place else ""
            which = f"its operator {refused['operator']} does not take what node {refused['number']} asks"
            return f"{which} ({said})" if said else which
    return next((line.strip().rstrip(".") for line in reversed(words) if line.strip()), "")


def _interpreter(runtime: Any, content: bytes) -> Any:
    return runtime.Interpreter.from_bytes(content, arena_size=max(_MIN_ARENA, _ARENA_OF_FILE * len(content)))


def _check_shapes(signature: Signature) -> None:
    """Refuse sizes that each call sets; the file has an example of them, and that one alone would run."""
    for spec in (*signature.inputs, *signature.outputs):
        open_sizes = [dim.symbol for dim in spec.dims if isinstance(dim, SymbolicDim)]
        if open_sizes:
            problem = f"{NAME} takes fixed shapes only; the size '{open_sizes[0]}' of '{spec.name}' is open."
            raise BundleError(problem, "Use a file that is made for one length.")


def _places(runtime: Any, content: bytes, entry: str) -> tuple[list[str], list[str]]:
    """Return the names of a signature's inputs and outputs in the order of the graph's own."""
    model = runtime.convert_bytearray_to_object(content)
    for signature in model.signatureDefs or ():
        if signature.signatureKey.decode() == entry and signature.subgraphIndex == 0:
            graph = model.subgraphs[0]
            inputs = {value.tensorIndex: value.name.decode() for value in signature.inputs}
            outputs = {value.tensorIndex: value.name.decode() for value in signature.outputs}
            return [inputs[int(i)] for i in graph.inputs], [outputs[int(i)] for i in graph.outputs]
    raise BundleError(f"The TFLite model has no signature '{entry}' of its first graph.", "Export it again.")
