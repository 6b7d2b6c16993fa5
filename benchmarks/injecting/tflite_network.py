"""TFLite files as networks, by the objects of LiteRT's schema: operators are found by the names of what they give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.formats.tflite.file import (
    operator_name,
    read_model,
    tensor_name,
    type_name,
    write_model,
)
from injecting.fault import NotHere
from injecting.network import Floats, Matrix, Norm, Operators, Table

_ELEMENTWISE = {"add": "ADD", "subtract": "SUB", "multiply": "MUL", "minimum": "MINIMUM"}
_FUNCTIONS = {"tanh": "TANH", "sigmoid": "LOGISTIC", "rsqrt": "RSQRT"}
_OPTIONS = {
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "MEAN": "ReducerOptions",
    "CAST": "CastOptions",
    "SOFTMAX": "SoftmaxOptions",
    "TRANSPOSE": "TransposeOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
}


class TFLiteNetwork:
    """A TFLite file of one graph; see `Network`."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema: Any = schema
        self.model: Any = read_model(path)
        self.graph: Any = self.model.subgraphs[0]
        self._listed = [(op, operator_name(self.model, op)) for op in self.graph.operators]
        self._linears = dict(self._named("FULLY_CONNECTED"))
        self.layers = sum(name.endswith(".intermediate.dense") for name in self._linears)
        self.heads = self._head_count()

    def save(self, path: Path) -> None:
        """Write the file."""
        write_model(self.model, path)

    def matrix(self, module: str) -> Matrix:
        """Return a linear layer."""
        operator = self._linear(module)
        values = self._constant(operator.inputs[1])
        outputs = values.shape[0]
        has_bias = len(operator.inputs) > 2 and operator.inputs[2] >= 0
        bias = self._constant(operator.inputs[2]) if has_bias else np.zeros(outputs, np.float32)
        return Matrix(values, self._scale(operator.inputs[1], values), np.asarray(bias, np.float32))

    def put_matrix(self, module: str, matrix: Matrix) -> None:
        """Replace a linear layer's numbers."""
        operator = self._linear(module)
        weight = self._own(operator, 1, matrix.values)
        if matrix.scale is not None:
            weight.quantization.scale = [float(s) for s in matrix.scale]
        if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
            self._own(operator, 2, matrix.bias)

    def table(self) -> Table:
        """Return the embedding of words."""
        operator = self._lookup("word_embeddings")
        values = self._constant(operator.inputs[1])
        return Table(values, self._scale(operator.inputs[1], values))

    def put_table(self, table: Table) -> None:
        """Replace it."""
        tensor = self._own(self._lookup("word_embeddings"), 1, table.values)
        if table.scale is not None:
            tensor.quantization.scale = [float(s) for s in table.scale]

    def rows(self, kind: str) -> Floats:
        """Return the rows that are added; see `Network.rows`."""
        operator, place = self._rows_place(kind)
        values = self._constant(operator.inputs[place])
        if values.dtype != np.float32:
            raise NotHere(f"the rows of {kind} are integers in this file")
        return np.asarray(values.reshape(-1, values.shape[-1]), np.float32)

    def put_rows(self, kind: str, rows: Floats) -> None:
        """Replace them."""
        operator, place = self._rows_place(kind)
        self._own(operator, place, rows.reshape(self._shape(operator.inputs[place])))

    def norm(self, module: str) -> Norm:
        """Return a layer norm."""
        epsilon, gamma, beta = self._norm_places(module)
        return Norm(
            self._constant(gamma[0].inputs[gamma[1]]).reshape(-1),
            self._constant(beta[0].inputs[beta[1]]).reshape(-1),
            float(self._constant(epsilon[0].inputs[epsilon[1]]).reshape(())),
        )

    def put_norm(self, module: str, norm: Norm) -> None:
        """Replace a layer norm's numbers, of this one alone."""
        values: tuple[NDArray[Any], ...] = (np.array(norm.epsilon, np.float32), norm.gamma, norm.beta)
        for (operator, place), value in zip(self._norm_places(module), values, strict=True):
            self._own(operator, place, value.reshape(self._shape(operator.inputs[place])))

    def penalty(self) -> float:
        """Return what is added to the attention scores of padding."""
        operator, place = self._penalty_place()
        return float(self._constant(operator.inputs[place]).reshape(-1)[0])

    def put_penalty(self, value: float) -> None:
        """Replace it."""
        operator, place = self._penalty_place()
        shape = self._shape(operator.inputs[place])
        self._own(operator, place, np.full(shape, value, np.float32))

    def gelu(self, layer: int) -> tuple[int, int]:
        """Return the tensors before and behind a layer's GELU."""
        before = self._linear(f"layer.{layer}.intermediate.dense").outputs[0]
        for operator, name in self._listed:
            if name == "GELU" and operator.inputs[0] == before:
                return int(before), int(operator.outputs[0])
        raise NotHere("this file has no GELU of its own")

    def residual(self, layer: int) -> tuple[int, int]:
        """Return a layer's last residual, and the sum that takes it in."""
        dense = self._linear(f"layer.{layer}.output.dense").outputs[0]
        operator = self._reader(dense, "ADD")
        return int(next(i for i in operator.inputs if i != dense)), int(operator.outputs[0])

    def context(self, layer: int) -> int:
        """Return what a layer's attention gives, before the dense layer."""
        return int(self._linear(f"layer.{layer}.attention.output.dense").inputs[0])

    def scores(self, layer: int) -> tuple[int, int]:
        """Return a layer's attention scores before the mask is added, and the softmax of those with the mask."""
        found = [operator for operator, name in self._listed if name == "SOFTMAX"]
        if len(found) != self.layers:
            raise NotHere("attention is one operator in this file")
        total = self._producer(found[layer].inputs[0])
        return int(total.inputs[0]), int(found[layer].outputs[0])

    def pooling(self) -> tuple[int, int, int]:
        """Return the mask as pooling uses it, the pooled vector, and the output."""
        mask = self._input("attention_mask")
        output = int(self.graph.outputs[0])
        last = self._producer(output)
        shaped = [o for o, n in self._listed if n == "RESHAPE" and o.inputs[0] == mask]
        if operator_name(self.model, last) != "DIV" or len(shaped) != 1:
            raise NotHere("this model does not pool by a mask and normalise")
        return int(shaped[0].outputs[0]), int(last.inputs[0]), output

    def norm_tensors(self, module: str) -> tuple[int, int]:
        """Return the tensors before and behind a layer norm."""
        before = self._before_norm(module)
        _, _, (last, _) = self._norm_places(module)
        return before, int(last.outputs[0])

    def divert(self, tensor: int, make: Callable[[Operators, Any], Any]) -> None:
        """Let everything that reads a tensor read another one; see `Network.divert`."""
        producer = self._producer(tensor)
        right = self.add_tensor(self.graph.tensors[tensor], "right")
        producer.outputs = [right if i == tensor else i for i in producer.outputs]
        operators = _TFLiteOperators(self)
        result = make(operators, right)
        last = operators.made[-1]
        assert list(last.outputs) == [result]
        last.outputs = [tensor]
        place = next(i for i, op in enumerate(self.graph.operators) if op is producer) + 1
        self.graph.operators[place:place] = operators.made
        self._listed = [(op, operator_name(self.model, op)) for op in self.graph.operators]

    def add_tensor(self, like: Any, name: str, *, shape: list[int] | None = None, signature: Any = None) -> int:
        """Add a tensor of floats that each call computes, of the shape of another one if none is given."""
        tensor = self.schema.TensorT()
        index = len(self.graph.tensors)
        tensor.name = f"fault/{name}/{index}".encode()
        tensor.type = self.schema.TensorType.FLOAT32
        tensor.shape = list(like.shape) if shape is None else shape
        kept = like.shapeSignature if shape is None else signature
        tensor.shapeSignature = None if kept is None else list(kept)
        tensor.buffer, tensor.hasRank = 0, True
        self.graph.tensors.append(tensor)
        return index

    def add_constant(self, values: NDArray[Any]) -> int:
        """Add a constant of floats or int32."""
        buffer = self.schema.BufferT()
        buffer.data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        self.model.buffers.append(buffer)
        tensor = self.schema.TensorT()
        tensor.name = f"fault/constant/{len(self.graph.tensors)}".encode()
        kinds = {"float32": "FLOAT32", "int32": "INT32"}
        tensor.type = getattr(self.schema.TensorType, kinds[values.dtype.name])
        tensor.shape, tensor.buffer, tensor.hasRank = list(values.shape), len(self.model.buffers) - 1, True
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def code(self, name: str) -> int:
        """Return the index of an operator's code, which is added if the file lacks it."""
        number = getattr(self.schema.BuiltinOperator, name)
        for index, code in enumerate(self.model.operatorCodes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == number:
                return index
        code = self.schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 1
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

    def _named(self, kind: str) -> Iterator[tuple[str, Any]]:
        for operator, name in self._listed:
            if name == kind:
                told = tensor_name(self.graph.tensors[operator.outputs[0]])
                yield told.removeprefix("layer/").rstrip(";0123456789") if told.startswith("layer/") else told, operator

    def _head_count(self) -> int:
        for operator, name in self._listed:
            if name == "BATCH_MATMUL":
                return int(self.graph.tensors[operator.outputs[0]].shape[0])
        raise NotHere("this file does not tell how many heads it has")

    def _linear(self, module: str) -> Any:
        for name, operator in self._linears.items():
            if name.endswith(f".{module}"):
                return operator
        raise NotHere(f"the layer {module} is not in this file by its name")

    def _lookup(self, module: str) -> Any:
        for name, operator in self._named("EMBEDDING_LOOKUP"):
            if name.endswith(f".{module}"):
                return operator
        raise NotHere(f"the embedding {module} is not in this file by its name")

    def _rows_place(self, kind: str) -> tuple[Any, int]:
        if kind == "position":
            return self._lookup("position_embeddings"), 1
        total = self._following(int(self._lookup("word_embeddings").outputs[0]), "ADD")
        return total, self._constant_place(total)

    def _following(self, tensor: int, kind: str) -> Any:
        """Return the next operator of a kind behind a tensor, past changes of shape."""
        for operator, name in self._listed:
            if tensor in operator.inputs:
                return operator if name == kind else self._following(int(operator.outputs[0]), kind)
        raise NotHere(f"no {kind} follows")

    def _before_norm(self, module: str) -> int:
        if module == "embeddings.LayerNorm":
            first = self._linear("layer.0.attention.self.query").inputs[0]
            operator = self._producer(int(first))
            while operator_name(self.model, operator) != "SUB":
                operator = self._producer(int(operator.inputs[0]))
            return int(operator.inputs[0])
        dense = self._linear(module.replace("LayerNorm", "dense")).outputs[0]
        return int(self._reader(dense, "ADD").outputs[0])

    def _norm_places(self, module: str) -> tuple[tuple[Any, int], ...]:
        """Return where a norm's epsilon, gamma and beta are read: an operator and the number of its input."""
        centred = int(self._reader(self._before_norm(module), "SUB").outputs[0])
        squares = next(o for o, n in self._listed if n == "MUL" and list(o.inputs) == [centred, centred])
        variance = self._reader(int(squares.outputs[0]), "MEAN")
        epsilon = self._reader(int(variance.outputs[0]), "ADD")
        scaled = next(o for o, n in self._listed if n == "MUL" and centred in o.inputs and o is not squares)
        gamma = self._reader(int(scaled.outputs[0]), "MUL")
        beta = self._reader(int(gamma.outputs[0]), "ADD")
        return tuple((o, self._constant_place(o)) for o in (epsilon, gamma, beta))

    def _constant_place(self, operator: Any) -> int:
        for place, index in enumerate(operator.inputs):
            data = self.model.buffers[self.graph.tensors[index].buffer].data
            if data is not None and len(data):
                return place
        raise NotHere("the operator has no constant")

    def _penalty_place(self) -> tuple[Any, int]:
        mask = self._input("attention_mask")
        turned = next((o for o, n in self._listed if n == "SUB" and mask in o.inputs), None)
        if turned is None:
            raise NotHere("no operator of its own makes the mask additive")
        operator = self._reader(int(turned.outputs[0]), "MUL")
        return operator, self._constant_place(operator)

    def _input(self, name: str) -> int:
        inputs = self.model.signatureDefs[0].inputs
        return int(next(i.tensorIndex for i in inputs if i.name.decode() == name))

    def _producer(self, tensor: int) -> Any:
        return next(o for o in self.graph.operators if tensor in o.outputs)

    def _reader(self, tensor: int, kind: str) -> Any:
        for operator, name in self._listed:
            if name == kind and tensor in operator.inputs:
                return operator
        raise NotHere(f"no {kind} reads this tensor")

    def _shape(self, index: int) -> list[int]:
        return [int(size) for size in self.graph.tensors[index].shape]

    def _scale(self, index: int, values: NDArray[Any]) -> Floats | None:
        quantization = self.graph.tensors[index].quantization
        if values.dtype != np.int8 or quantization is None or quantization.scale is None:
            return None
        return np.array(quantization.scale, np.float32)

    def _constant(self, index: int) -> NDArray[Any]:
        tensor = self.graph.tensors[index]
        data = self.model.buffers[tensor.buffer].data
        kind = type_name(tensor)
        if data is None or kind not in {"FLOAT32", "INT8"}:
            raise NotHere(f"a constant is of type {kind} in this file")
        return np.frombuffer(bytes(data), np.dtype(kind.lower())).reshape(self._shape(index))

    def _own(self, operator: Any, place: int, values: NDArray[Any]) -> Any:
        """Give an operator a constant of its own, since others may read the old one; return its tensor."""
        old = self.graph.tensors[operator.inputs[place]]
        new = self.schema.TensorT()
        for field, value in vars(old).items():
            setattr(new, field, value)
        dtype = np.dtype(type_name(old).lower())
        buffer = self.schema.BufferT()
        buffer.data = np.ascontiguousarray(values.astype(dtype)).reshape(-1).view(np.uint8)
        self.model.buffers.append(buffer)
        new.buffer = len(self.model.buffers) - 1
        readers = [o for o in self.graph.operators if operator.inputs[place] in o.inputs]
        if len(readers) == 1:
            self.model.buffers[old.buffer].data = None
        self.graph.tensors.append(new)
        inputs = list(operator.inputs)
        inputs[place] = len(self.graph.tensors) - 1
        operator.inputs = inputs
        return new


class _TFLiteOperators:
    """Makes operators; see `Operators`. Shapes are only sketched: the interpreter works them out itself."""

    def __init__(self, network: TFLiteNetwork) -> None:
        self._network = network
        self.made: list[Any] = []

    def constant(self, values: NDArray[np.floating] | float) -> int:
        return self._network.add_constant(np.asarray(values, np.float32))

    def elementwise(self, name: str, left: int, right: int) -> int:
        return self._operator(_ELEMENTWISE[name], [left, right], self._tensor(left))

    def function(self, name: str, value: int) -> int:
        return self._operator(_FUNCTIONS[name], [value], self._tensor(value))

    def mean(self, value: int) -> int:
        like = self._tensor(value)
        axis = self._network.add_constant(np.array([len(like.shape) - 1], np.int32))
        signature = None if like.shapeSignature is None else [*list(like.shapeSignature)[:-1], 1]
        shape = [*list(like.shape)[:-1], 1]
        return self._operator("MEAN", [value, axis], like, {"keepDims": True}, shape=shape, signature=signature)

    def to_half_and_back(self, value: int) -> int:
        kinds = self._network.schema.TensorType
        half = self._operator("CAST", [value], self._tensor(value), {"inDataType": kinds.FLOAT32, "outDataType": 1})
        self._tensor(half).type = kinds.FLOAT16
        return self._operator("CAST", [half], self._tensor(value), {"inDataType": 1, "outDataType": kinds.FLOAT32})

    def softmax(self, value: int) -> int:
        return self._operator("SOFTMAX", [value], self._tensor(value), {"beta": 1.0})

    def transpose(self, value: int, rank: int) -> int:
        order = [*range(rank - 2), rank - 1, rank - 2]
        return self._operator(
            "TRANSPOSE", [value, self._network.add_constant(np.array(order, np.int32))], self._tensor(value)
        )

    def linear(self, value: int, matrix: Floats) -> int:
        weight = self._network.add_constant(np.ascontiguousarray(matrix.T, np.float32))
        settings = {"keepNumDims": True}
        return self._operator("FULLY_CONNECTED", [value, weight, -1], self._tensor(value), settings)

    def _tensor(self, index: int) -> Any:
        return self._network.graph.tensors[index]

    def _operator(
        self,
        kind: str,
        inputs: list[int],
        like: Any,
        settings: dict[str, Any] | None = None,
        *,
        shape: list[int] | None = None,
        signature: Any = None,
    ) -> int:
        schema = self._network.schema
        operator = schema.OperatorT()
        operator.opcodeIndex = self._network.code(kind)
        operator.inputs = inputs
        output = self._network.add_tensor(like, kind.lower(), shape=shape, signature=signature)
        operator.outputs = [output]
        if kind in _OPTIONS:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, _OPTIONS[kind])
            operator.builtinOptions = getattr(schema, f"{_OPTIONS[kind]}T")()
            for field, value in (settings or {}).items():
                setattr(operator.builtinOptions, field, value)
        self.made.append(operator)
        return output
