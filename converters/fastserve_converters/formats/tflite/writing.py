"""TFLite files made from nothing, operator by operator (schema.fbs), with constants that graphs share.

Every graph of a file has tensors of its own; the bytes of a constant lie in the file once, whichever graphs use it.
Constants stand behind the flatbuffer and are written one by one, so that a file may be larger than the 2 GB that a
flatbuffer holds, and making it takes little memory beside the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.formats.tflite.file import serialized
from fastserve_converters.formats.tflite.quantized_weights import check_symmetric, packed, stored_blocks
from fastserve_converters.quantized_weight import QuantizedWeight

_KINDS = {np.dtype(np.float32): "FLOAT32", np.dtype(np.int32): "INT32", np.dtype(np.float16): "FLOAT16"}
_SCHEMA_VERSION = 3
_ALIGNMENT = 64
"""Constants begin at multiples of so many bytes, as XNNPACK likes them."""
_LARGE = 1024
"""Smaller constants, such as shapes, lie within the flatbuffer."""


OPEN = -1
"""In shapes: a size that each call sets."""


@dataclass(frozen=True)
class Value:
    """A tensor of a graph: its index, and its shape, in which sizes may be `OPEN`."""

    index: int
    shape: tuple[int, ...]


class ModelWriter:
    """A file in the making: the operators' codes and the constants that its graphs share."""

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._schema: Any = schema
        self._buffers: list[Any] = [schema.BufferT()]
        self._large: dict[int, memoryview] = {}
        self._by_name: dict[str, int] = {}
        self._codes: dict[tuple[str, int], int] = {}
        self._graphs: list[GraphWriter] = []

    def graph(self, name: str) -> GraphWriter:
        """Begin a graph, which gets a signature of the same name."""
        graph = GraphWriter(self, self._schema, name)
        self._graphs.append(graph)
        return graph

    def write(self, path: Path) -> Any:
        """Write the file, and return its flatbuffer as a `ModelT`, in which large constants are places in the file."""
        model = self._model()
        with path.open("wb") as file:
            for part in self._parts(model):
                file.write(part)
        return model

    def content(self) -> bytes:
        """Return what `write` writes."""
        return b"".join(bytes(part) for part in self._parts(self._model()))

    def _parts(self, model: Any) -> Iterator[memoryview | bytes]:
        # The places depend on the flatbuffer's length, and that does not depend on the places.
        end = len(serialized(model))
        for index, data in self._large.items():
            end += -end % _ALIGNMENT
            model.buffers[index].offset = end
            end += len(data)
        head = serialized(model)
        yield head
        end = len(head)
        for data in self._large.values():
            padding = bytes(-end % _ALIGNMENT)
            yield padding
            yield data
            end += len(padding) + len(data)

    def _model(self) -> Any:
        schema = self._schema
        model = schema.ModelT()
        model.version = _SCHEMA_VERSION
        model.description = "FastServe"
        model.buffers = self._buffers
        model.operatorCodes = []
        for name, version in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode = getattr(schema.BuiltinOperator, name)
            # The deprecated byte ends at 127, which stands for "look at the other".
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            code.version = version
            model.operatorCodes.append(code)
        model.subgraphs = [graph.subgraph for graph in self._graphs]
        model.signatureDefs = [graph.signature(index) for index, graph in enumerate(self._graphs)]
        return model

    def buffer(self, name: str, data: NDArray[Any]) -> int:
        """Return the index of the buffer with a constant's bytes; equal names mean equal bytes."""
        if name not in self._by_name:
            buffer = self._schema.BufferT()
            content = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
            if len(content) < _LARGE:
                buffer.data = content
            else:
                # 0 and 1 stand for "within the flatbuffer", and a default would not be stored.
                buffer.offset, buffer.size = _ALIGNMENT, len(content)
                self._large[len(self._buffers)] = content.data
            self._buffers.append(buffer)
            self._by_name[name] = len(self._buffers) - 1
        return self._by_name[name]

    def code(self, name: str, version: int) -> int:
        """Return the index of an operator's code."""
        return self._codes.setdefault((name, version), len(self._codes))


class GraphWriter:
    """A graph in the making. Its methods add an operator each and return what it gives."""

    def __init__(self, owner: ModelWriter, schema: Any, name: str) -> None:
        self._owner, self._schema = owner, schema
        self._constants: dict[str, Value] = {}
        self._given: dict[str, int] = {}
        self._results: dict[str, int] = {}
        self.name = name
        self.subgraph = schema.SubGraphT()
        self.subgraph.name = name.encode()
        self.subgraph.tensors, self.subgraph.operators = [], []
        self.subgraph.inputs, self.subgraph.outputs = [], []

    def input(self, name: str, shape: Sequence[int], kind: str = "FLOAT32") -> Value:
        """Add an input."""
        value = self._tensor(name, shape, kind)
        self.subgraph.inputs.append(value.index)
        self._given[name] = value.index
        return value

    def output(self, name: str, value: Value) -> None:
        """Make a value an output."""
        self.subgraph.tensors[value.index].name = name.encode()
        self.subgraph.outputs.append(value.index)
        self._results[name] = value.index

    def signature(self, index: int) -> Any:
        """Return the signature of this graph, which is the file's graph of that index."""
        schema = self._schema
        signature = schema.SignatureDefT()
        signature.signatureKey = self.name.encode()
        signature.subgraphIndex = index
        signature.inputs = [self._map(*item) for item in self._given.items()]
        signature.outputs = [self._map(*item) for item in self._results.items()]
        return signature

    def constant(self, name: str, values: NDArray[Any]) -> Value:
        """Return a constant; one of that name is made once."""
        if name not in self._constants:
            buffer = self._owner.buffer(name, values)
            self._constants[name] = self._tensor(name, values.shape, _KINDS[values.dtype], buffer)
        return self._constants[name]

    def quantized_weight(self, name: str, weight: QuantizedWeight) -> Value:
        """Return a quantized matrix with a scale for each row, or for each block of a row.

        Raises:
            EnvironmentFailure: they have zero points.
        """
        if name in self._constants:
            return self._constants[name]
        check_symmetric(weight)
        schema, groups = self._schema, weight.scale.shape[1]
        quantization = schema.QuantizationParametersT()
        quantization.quantizedDimension = 0
        values = weight.values
        if groups == 1:
            quantization.scale = weight.scale.reshape(-1).astype(np.float32)
            quantization.zeroPoint = np.zeros(values.shape[0], np.int64)
        else:
            values, scales = stored_blocks(weight)
            details = schema.BlockwiseQuantizationT()
            details.scales = self.constant(f"{name}.scales", scales).index
            details.zeroPoints = -1
            details.blockSize = values.shape[1] // groups
            quantization.detailsType = schema.QuantizationDetails.BlockwiseQuantization
            quantization.details = details
        bits = weight.scheme.bits
        data = values if bits == 8 else packed(values)
        self._constants[name] = value = self._tensor(name, values.shape, f"INT{bits}", self._owner.buffer(name, data))
        self.subgraph.tensors[value.index].quantization = quantization
        return value

    def operator(
        self,
        name: str,
        inputs: Sequence[Value | None],
        shape: Sequence[int],
        options: str | None = None,
        *,
        version: int = 1,
        kind: str = "FLOAT32",
        settings: Mapping[str, Any] | None = None,
    ) -> Value:
        """Add an operator with one output.

        Args:
            name: such as `FULLY_CONNECTED`.
            inputs: what it takes; None for an optional one that is left out.
            shape: of the output.
            options: the name of its options, such as `FullyConnectedOptions`; None where it has none.
            version: of the operator, as LiteRT counts.
            kind: the output's type.
            settings: field of the options → value.
        """
        schema = self._schema
        result = self._tensor(f"{name.lower()}_{len(self.subgraph.operators)}", shape, kind)
        operator = schema.OperatorT()
        operator.opcodeIndex = self._owner.code(name, version)
        operator.inputs = [-1 if value is None else value.index for value in inputs]
        operator.outputs = [result.index]
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, f"{options}T")()
            for field, setting in (settings or {}).items():
                setattr(operator.builtinOptions, field, setting)
        self.subgraph.operators.append(operator)
        return result

    def _tensor(self, name: str, shape: Sequence[int], kind: str, buffer: int = 0) -> Value:
        schema = self._schema
        tensor = schema.TensorT()
        tensor.name = name.encode()
        tensor.type = getattr(schema.TensorType, kind)
        tensor.shape = [1 if size == OPEN else int(size) for size in shape]
        if OPEN in shape:
            tensor.shapeSignature = [int(size) for size in shape]
        tensor.buffer = buffer
        tensor.hasRank = True
        self.subgraph.tensors.append(tensor)
        return Value(len(self.subgraph.tensors) - 1, tuple(shape))

    def _map(self, name: str, index: int) -> Any:
        entry = self._schema.TensorMapT()
        entry.name = name.encode()
        entry.tensorIndex = index
        return entry
