"""ExecuTorch programs, instruction by instruction, for backends that no ExecuTorch runtime here has.

What the file hands to the backend is given to what stands for the backend, such as a reference model. Of ExecuTorch's
own kernels there are those that round inputs and outputs: a program with others is not made for such a backend as a
whole, and is refused with their names.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastserve_device_tests.executors.executorch_program import (
    DelegateCall,
    KernelCall,
    Method,
    TensorValue,
    read_program,
)
from fastserve_runtime.bundle.manifest import Graph
from fastserve_runtime.bundle.tensor_specs import Signature, TensorSpec
from fastserve_runtime.errors import BundleError, EnvironmentFailure, UsageError
from fastserve_runtime.sessions.named_session import NamedSession
from fastserve_runtime.sessions.session import ModelSource, Placement

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Tensor

Arrays = Sequence[NDArray[Any]]
Execute = Callable[[Arrays], Arrays]
"""Runs what a backend was given: inputs as they lie in memory → outputs likewise, of as many elements as the program
says, in the shape that it likes."""

KERNELS = "ExecuTorch's kernels"
SOURCE = "the program's instructions"
_QUANTIZE = "quantized_decomposed::quantize_per_tensor.out"
_DEQUANTIZE = "quantized_decomposed::dequantize_per_tensor.out"


@dataclass(frozen=True)
class Backend:
    """What stands for a backend.

    Attributes:
        name: its id in programs.
        engine: the name of what stands for it, as sessions tell it.
        open: reads what the backend is given, with the tensors that it takes and gives, and returns what runs it.
            Raises BundleError if it refuses that.
        close: lets go of what `open` returned.
    """

    name: str
    engine: str
    open: Callable[[bytes, Sequence[TensorValue], Sequence[TensorValue]], Execute]
    close: Callable[[], None] = lambda: None


def open_program(
    model: ModelSource, graphs: Mapping[str, Graph] | None, backend: Backend, *, threads: int
) -> InterpretedSession:
    """Load a program whose delegates are all for one backend; see `Engine.open_session`. Graphs must be given.

    Raises:
        UsageError: no graphs are given.
        BundleError: the file is no such program, calls kernels that are not here, or its backend refuses it.
    """
    if graphs is None:
        raise UsageError(f"{backend.engine} does not open bare files.", "Open a bundle instead.")
    content = model.read_bytes() if isinstance(model, Path) else bytes(model)
    methods = read_program(content)
    opened = {name: _opened(methods, graph, backend) for name, graph in graphs.items()}
    signatures = {name: graph.signature for name, graph in graphs.items()}
    return InterpretedSession(opened, signatures, threads, backend)


class InterpretedSession(NamedSession):
    """A program that is executed instruction by instruction."""

    def __init__(
        self, opened: dict[str, _Opened], graphs: Mapping[str, Signature], threads: int, backend: Backend
    ) -> None:
        super().__init__(graphs, threads)
        self.engine = backend.engine
        self._opened = opened
        self._backend = backend

    def _execute(self, graph: str, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        signature = self.graphs[graph]
        outputs = self._opened[graph].run([inputs[spec.name] for spec in signature.inputs])
        return {spec.name: value for spec, value in zip(signature.outputs, outputs, strict=True)}

    def _placement(self) -> Placement:
        counts: Counter[str] = sum((placed_calls(o.method) for o in self._opened.values()), Counter())
        return Placement(dict(counts), SOURCE)

    def _release(self) -> None:
        self._opened = {}
        self._backend.close()


def placed_calls(method: Method) -> Counter[str]:
    """Return the calls of each backend, and of ExecuTorch's kernels but those that round inputs and outputs."""
    at_ends = set(method.inputs) | set(method.outputs)
    kernels = sum(
        isinstance(i, KernelCall) and not (i.name in _KERNELS and at_ends & {i.arguments[0], i.arguments[-1]})
        for i in method.instructions
    )
    counts = method.calls_of_backends()
    return counts + Counter({KERNELS: kernels})


@dataclass(frozen=True)
class _Opened:
    method: Method
    delegates: Mapping[int, Execute]

    def run(self, inputs: Arrays) -> list[NDArray[Any]]:
        """Execute the instructions; every value is written once."""
        values: dict[int, Any] = {
            place: value.constant if isinstance(value, TensorValue) else value
            for place, value in enumerate(self.method.values)
            if not isinstance(value, TensorValue) or value.constant is not None
        }
        values |= dict(zip(self.method.inputs, inputs, strict=True))
        for step in self.method.instructions:
            if isinstance(step, KernelCall):
                *given, result = step.arguments
                values[result] = _KERNELS[step.name](*map(values.get, given))
            else:
                self._call(step, values)
        return [np.ascontiguousarray(values[place]) for place in self.method.outputs]

    def _call(self, step: DelegateCall, values: dict[int, Any]) -> None:
        known = _inputs_of(self.method, step)
        given = [np.ascontiguousarray(values[p].transpose(_tensor(self.method, p).order)) for p in known]
        wanted = step.arguments[len(known) :]
        results = self.delegates[step.delegate](given)
        if len(results) != len(wanted):
            raise EnvironmentFailure(f"The backend gave {len(results)} outputs; the program has {len(wanted)}.")
        for place, result in zip(wanted, results, strict=True):
            tensor = _tensor(self.method, place)
            if result.size != math.prod(tensor.sizes) or result.dtype != tensor.dtype:
                found, needed = f"{result.dtype} {list(result.shape)}", f"{tensor.dtype} {list(tensor.sizes)}"
                raise EnvironmentFailure(f"The backend gave {found}; the program has {needed}.")
            lying = result.reshape([tensor.sizes[d] for d in tensor.order])
            values[place] = lying.transpose(np.argsort(tensor.order)) if tensor.sizes else lying


def _opened(methods: Mapping[str, Method], graph: Graph, backend: Backend) -> _Opened:
    method = methods.get(graph.entry)
    if method is None:
        raise BundleError(f"The ExecuTorch program has no method '{graph.entry}'.", "Export it again.")
    others = sorted({d.backend for d in method.delegates} - {backend.name})
    if others:
        raise BundleError(f"The program is made for {', '.join(others)}, not for {backend.name}.", "Export it again.")
    unknown = sorted(method.kernel_calls().keys() - _KERNELS.keys())
    if unknown:
        problem = f"The program leaves {', '.join(unknown)} to ExecuTorch's kernels, which {backend.engine} has not."
        raise BundleError(problem, f"Use a model that {backend.name} takes as a whole.")
    _check_tensors(method, method.inputs, graph.signature.inputs)
    _check_tensors(method, method.outputs, graph.signature.outputs)
    delegates: dict[int, Execute] = {}
    for step in method.instructions:
        if isinstance(step, DelegateCall) and step.delegate not in delegates:
            known = _inputs_of(method, step)
            taken, given = ([_tensor(method, p) for p in part] for part in (known, step.arguments[len(known) :]))
            delegates[step.delegate] = backend.open(method.delegates[step.delegate].content, taken, given)
    return _Opened(method, delegates)


def _check_tensors(method: Method, places: Sequence[int], specs: Sequence[TensorSpec]) -> None:
    found = [(t.dtype, t.sizes) for t in (_tensor(method, place) for place in places)]
    if found != [(spec.dtype, spec.dims) for spec in specs]:
        listed = ", ".join(f"{dtype} {list(sizes)}" for dtype, sizes in found)
        raise BundleError(f"The program's tensors ({listed}) are not those of the manifest.", "Export it again.")


def _inputs_of(method: Method, call: DelegateCall) -> tuple[int, ...]:
    """Return the arguments that a delegate reads: those that have a value when it is called."""
    known = set(method.inputs)
    for step in method.instructions:
        if step is call:
            break
        known |= {step.arguments[-1]} if isinstance(step, KernelCall) else set(step.arguments)
    constants = {p for p in call.arguments if _tensor(method, p).constant is not None}
    return tuple(place for place in call.arguments if place in known | constants)


def _tensor(method: Method, place: int) -> TensorValue:
    value = method.values[place]
    if not isinstance(value, TensorValue):
        raise BundleError("The ExecuTorch program is damaged: it hands no tensor to a backend.", "Export it again.")
    return value


def _quantized(
    value: NDArray[Any], scale: float, zero: int, minimum: int, maximum: int, dtype: int, _: Any
) -> NDArray[Any]:
    """Round as ExecuTorch's kernel does: to even, by the reciprocal of the scale in 32 bits."""
    steps = np.rint(value * (np.float32(1) / np.float32(scale))) + zero
    rounded: NDArray[Any] = np.clip(steps, minimum, maximum).astype(_INTEGERS[dtype])
    return rounded


def _floats(
    value: NDArray[Any], scale: float, zero: int, _minimum: int, _maximum: int, _dtype: int, _out_dtype: Any, _: Any
) -> NDArray[Any]:
    return (value.astype(np.int32) - np.int32(zero)).astype(np.float32) * np.float32(scale)


_INTEGERS = {0: "uint8", 1: "int8", 2: "int16", 3: "int32"}
_KERNELS: Mapping[str, Callable[..., NDArray[Any]]] = {_QUANTIZE: _quantized, _DEQUANTIZE: _floats}
