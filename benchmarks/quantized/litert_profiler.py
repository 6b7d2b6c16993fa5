"""LiteRT's own profiler, by its C interface: the Python package has it in `libLiteRt.so` but offers no way to it.

Declarations as in LiteRT's `litert/c/litert_profiler.h`, `litert_compiled_model.h` and `litert_layout.h`.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

_CPU = 1
_HOST_MEMORY = 1
_LOCK_FOR_WRITING = 1
_RANK_BITS = 0x7F
_OPEN = -1
"""A dimension that a signature leaves open."""
_ELEMENT_TYPES = {"float32": 1, "int32": 2, "int64": 4}
_OPTIONS = b"runtime_options_string", b"enable_profiling = true\n"
_ROW = re.compile(r"^\s*(\S.*?)\s+(\d+)\s+[\d.]+\s+([\d.]+)%\s+[\d.]+%\s+[\d.]+\s+\d+\s*$", re.MULTILINE)
_TOTAL = re.compile(r"Timings \(microseconds\): count=\d+ .*?curr=(\d+)")


class _Layout(ctypes.Structure):
    _fields_ = (("rank", ctypes.c_uint32), ("dimensions", ctypes.c_int32 * 8), ("strides", ctypes.c_uint32 * 8))


class _RankedTensorType(ctypes.Structure):
    _fields_ = (("element_type", ctypes.c_int32), ("layout", _Layout))


@dataclass(frozen=True)
class OperatorTime:
    """An operator type: how many nodes of it there are, and their seconds in one run."""

    operator: str
    calls: int
    seconds: float


class ProfiledModel:
    """A TFLite file opened for profiling; one of its signatures."""

    def __init__(self, file: Path, signature: str | None = None) -> None:
        """Open a file.

        Args:
            file: the model.
            signature: which; the one with the largest inputs if left out.
        """
        spec = find_spec("ai_edge_litert")
        assert spec is not None
        assert spec.origin is not None
        self._library = ctypes.CDLL(str(Path(spec.origin).parent / "libLiteRt.so"))
        self._environment, model, options = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
        self._call("CreateEnvironment", 0, None, ctypes.byref(self._environment))
        self._call("CreateModelFromFile", self._environment, str(file).encode(), ctypes.byref(model))
        self._call("CreateOptions", ctypes.byref(options))
        self._call("SetOptionsHardwareAccelerators", options, _CPU)
        self._call("AddOpaqueOptions", options, self._profiling())
        self._model, self._profiler = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("CreateCompiledModel", self._environment, model, options, ctypes.byref(self._model))
        self._call("CompiledModelGetProfiler", self._model, ctypes.byref(self._profiler))
        self._index, self._inputs, self._outputs = _signature(file.read_bytes(), signature)

    def profile(self, inputs: Mapping[str, np.ndarray], runs: int) -> list[OperatorTime]:
        """Run on inputs and return the time of each operator type in one run, longest first.

        Raises:
            ValueError: an input's shape is none that the signature takes.
        """
        read = [self._buffer(dtype, inputs[name].shape) for name, dtype, _ in self._inputs]
        for number, ((name, dtype, dims), buffer) in enumerate(zip(self._inputs, read, strict=True)):
            self._resize(number, name, dims, inputs[name].shape)
            self._fill(buffer, np.ascontiguousarray(inputs[name].astype(dtype)))
        written = [
            self._buffer(dtype, shape)
            for (_, dtype, _), shape in zip(self._outputs, self._output_shapes(), strict=True)
        ]
        arguments = (
            self._model,
            ctypes.c_size_t(self._index),
            ctypes.c_size_t(len(read)),
            (ctypes.c_void_p * len(read))(*read),
            ctypes.c_size_t(len(written)),
            (ctypes.c_void_p * len(written))(*written),
        )
        self._call("RunCompiledModel", *arguments)
        self._call("StartProfiler", self._profiler)
        for _ in range(runs):
            self._call("RunCompiledModel", *arguments)
        self._call("StopProfiler", self._profiler)
        summary = ctypes.c_char_p()
        self._call("GetProfileSummary", self._profiler, self._model, ctypes.byref(summary))
        return parse_summary((summary.value or b"").decode(), runs)

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, f"LiteRt{name}")(*arguments)
        if status:
            raise RuntimeError(f"LiteRt{name} failed with status {status}")

    def _resize(self, number: int, name: str, dims: tuple[int, ...], shape: tuple[int, ...]) -> None:
        """Give an input the shape that it is about to have, where the signature leaves it open."""
        if len(dims) != len(shape) or any(own not in {_OPEN, given} for own, given in zip(dims, shape, strict=True)):
            raise ValueError(f"'{name}' has the shape {shape}; the signature takes {dims}")
        if _OPEN in dims:
            given = (ctypes.c_int * len(shape))(*shape)
            index, input_index = ctypes.c_size_t(self._index), ctypes.c_size_t(number)
            rank = ctypes.c_size_t(len(shape))
            self._call("CompiledModelResizeInputTensor", self._model, index, input_index, given, rank)

    def _output_shapes(self) -> list[tuple[int, ...]]:
        layouts = (_Layout * len(self._outputs))()
        index, count = ctypes.c_size_t(self._index), ctypes.c_size_t(len(layouts))
        update_allocation = ctypes.c_bool(1)
        self._call("GetCompiledModelOutputTensorLayouts", self._model, index, count, layouts, update_allocation)
        # The upper bits of the rank say whether there are strides.
        return [tuple(layout.dimensions[: layout.rank & _RANK_BITS]) for layout in layouts]

    def _profiling(self) -> ctypes.c_void_p:
        c = ctypes.CDLL(None)
        c.strdup.restype = ctypes.c_void_p
        name, text = _OPTIONS
        made = ctypes.c_void_p()
        payload = ctypes.c_void_p(c.strdup(text))
        self._call("CreateOpaqueOptions", name, payload, ctypes.cast(c.free, ctypes.c_void_p), ctypes.byref(made))
        return made

    def _buffer(self, dtype: str, dims: tuple[int, ...]) -> ctypes.c_void_p:
        kind = _RankedTensorType(_ELEMENT_TYPES[dtype], _Layout(len(dims), dims))
        size = ctypes.c_size_t(np.dtype(dtype).itemsize * int(np.prod(dims)))
        made = ctypes.c_void_p()
        self._call(
            "CreateManagedTensorBuffer", self._environment, _HOST_MEMORY, ctypes.byref(kind), size, ctypes.byref(made)
        )
        return made

    def _fill(self, buffer: ctypes.c_void_p, values: np.ndarray) -> None:
        address = ctypes.c_void_p()
        self._call("LockTensorBuffer", buffer, ctypes.byref(address), _LOCK_FOR_WRITING)
        ctypes.memmove(address, values.ctypes.data, values.nbytes)
        self._call("UnlockTensorBuffer", buffer)


def parse_summary(text: str, runs: int) -> list[OperatorTime]:
    """Read the profiler's table of node types; its percentages are more exact than its milliseconds."""
    total = _TOTAL.search(text)
    _, _, table = text.partition("Summary by node type")
    table, _, _ = table.partition("\n\n")
    if total is None or not table:
        raise RuntimeError("LiteRT's profiler told nothing")
    seconds = int(total[1]) * 1e-6 / runs
    return [
        OperatorTime(row[1].removeprefix("Delegate/"), int(row[2]), float(row[3]) / 100 * seconds)
        for row in _ROW.finditer(table)
    ]


Tensors = list[tuple[str, str, tuple[int, ...]]]


def _signature(content: bytes, wanted: str | None) -> tuple[int, Tensors, Tensors]:
    """Return a signature's index and its tensors (name, dtype, dims)."""
    from ai_edge_litert import schema_py_generated as schema

    dtypes = {schema.TensorType.FLOAT32: "float32", schema.TensorType.INT32: "int32", schema.TensorType.INT64: "int64"}
    model: Any = schema.Model.GetRootAs(content, 0)

    def tensors(graph: Any, entries: list[Any], order: list[int]) -> Tensors:
        # Buffers are taken in the graph's order, which need not be the signature's.
        found = sorted(entries, key=lambda entry: order.index(entry.TensorIndex()))
        pairs = [(entry.Name().decode(), graph.Tensors(entry.TensorIndex())) for entry in found]
        return [(name, dtypes[t.Type()], _dims(t)) for name, t in pairs]

    signatures = []
    for index in range(model.SignatureDefsLength()):
        definition = model.SignatureDefs(index)
        graph = model.Subgraphs(definition.SubgraphIndex())
        read = [definition.Inputs(i) for i in range(definition.InputsLength())]
        written = [definition.Outputs(i) for i in range(definition.OutputsLength())]
        inputs = tensors(graph, read, graph.InputsAsNumpy().tolist())
        outputs = tensors(graph, written, graph.OutputsAsNumpy().tolist())
        if wanted in {None, definition.SignatureKey().decode()}:
            signatures.append((index, inputs, outputs))
    return max(signatures, key=lambda s: int(np.prod(s[1][0][2])))


def _dims(tensor: Any) -> tuple[int, ...]:
    """Return a tensor's dims; where some are open, its shape has those that it was traced with."""
    is_open = tensor.ShapeSignatureLength() > 0
    return tuple(int(d) for d in (tensor.ShapeSignatureAsNumpy() if is_open else tensor.ShapeAsNumpy()))
