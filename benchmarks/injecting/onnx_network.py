"""ONNX files as networks: nodes and tensors are found by the names that the exporter gives them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from injecting.fault import NotHere
from injecting.network import Floats, Matrix, Norm, Operators, Table

_ELEMENTWISE = {"add": "Add", "subtract": "Sub", "multiply": "Mul", "minimum": "Min"}
_FUNCTIONS = {"tanh": "Tanh", "sigmoid": "Sigmoid"}
_JOINT = " + "
"""Between the names of layers whose matrices are one."""


class OnnxNetwork:
    """An ONNX file; see `Network`."""

    def __init__(self, path: Path) -> None:
        self._model = onnx.load(str(path))
        self._graph = self._model.graph
        self._initializers = {i.name: i for i in self._graph.initializer}
        self._producers = {name: node for node in self._graph.node for name in node.output}
        self._nodes = {node.name: node for node in self._graph.node}
        dense = [n for n in self._nodes if n.endswith(".intermediate.dense")]
        self.layers = len(dense)
        self.heads = self._head_count()
        self._made = 0

    def save(self, path: Path) -> None:
        """Write the file."""
        onnx.save(self._model, str(path))

    def matrix(self, module: str) -> Matrix:
        """Return a linear layer."""
        node, columns = self._linear(module)
        if node.op_type in {"MatMul", "Gemm"}:
            values = self._array(node.input[1])
            return Matrix(values.T, None, self._array(self._bias_name(node)))
        scale = self._array(node.input[4 if node.op_type == "QAttention" else 2])
        bias = self._array(self._bias_name(node))
        return Matrix(self._array(node.input[1])[:, columns].T, scale[columns], bias[columns])

    def put_matrix(self, module: str, matrix: Matrix) -> None:
        """Replace a linear layer's numbers."""
        node, columns = self._linear(module)
        bias = self._array(self._bias_name(node)).copy()
        values = self._array(node.input[1]).copy()
        values[:, columns] = matrix.values.T
        bias[columns] = matrix.bias
        if matrix.scale is not None:
            name = node.input[4 if node.op_type == "QAttention" else 2]
            scale = self._array(name).copy()
            scale[columns] = matrix.scale
            self._own(node, name, scale)
        self._own(node, node.input[1], values)
        holder = node if self._bias_name(node) in node.input else self._nodes[f"{node.name}/bias"]
        self._own(holder, self._bias_name(node), bias)

    def table(self) -> Table:
        """Return the embedding of words."""
        for name in self._initializers:
            if name.endswith("word_embeddings.weight"):
                return Table(self._array(name), None)
            if name.endswith("word_embeddings.int8"):
                return Table(self._array(name), self._array(name.removesuffix("int8") + "scale"))
        raise NotHere("no embedding of words is in this file as floats or int8")

    def put_table(self, table: Table) -> None:
        """Replace it."""
        kind = "weight" if table.scale is None else "int8"
        name = next(n for n in self._initializers if n.endswith(f"word_embeddings.{kind}"))
        self._put(name, table.values)
        if table.scale is not None:
            self._put(name.removesuffix("int8") + "scale", table.scale)

    def rows(self, kind: str) -> Floats:
        """Return the rows that are added; see `Network.rows`."""
        return np.asarray(self._array(self._rows_name(kind))[0], np.float32)

    def put_rows(self, kind: str, rows: Floats) -> None:
        """Replace them."""
        self._put(self._rows_name(kind), rows[None])

    def norm(self, module: str) -> Norm:
        """Return a layer norm."""
        node = self._norm_node(module)
        epsilon = next(a for a in node.attribute if a.name == "epsilon")
        return Norm(self._array(node.input[1]), self._array(node.input[2]), epsilon.f)

    def put_norm(self, module: str, norm: Norm) -> None:
        """Replace a layer norm's numbers."""
        node = self._norm_node(module)
        self._own(node, node.input[1], norm.gamma)
        self._own(node, node.input[2], norm.beta)
        next(a for a in node.attribute if a.name == "epsilon").f = norm.epsilon

    def penalty(self) -> float:
        """Return what is added to the attention scores of padding."""
        fused = self._penalties()
        if fused:
            return float(fused[0].f)
        node = self._penalty_node()
        return float(self._array(node.input[1]))

    def put_penalty(self, value: float) -> None:
        """Replace it."""
        fused = self._penalties()
        for attribute in fused:
            attribute.f = value
        if not fused:
            node = self._penalty_node()
            self._own(node, node.input[1], np.array(value, np.float32))

    def gelu(self, layer: int) -> tuple[str, str]:
        """Return the tensors before and behind a layer's GELU."""
        before = self._node(f"layer.{layer}.intermediate.dense")
        tensor = self._behind_bias(before)
        for node in self._graph.node:
            if node.op_type == "Gelu" and node.input[0] == tensor:
                return tensor, str(node.output[0])
        raise NotHere("this file has no GELU of its own")

    def residual(self, layer: int) -> tuple[str, str]:
        """Return a layer's last residual, and the sum that takes it in."""
        total = str(self._norm_node(f"layer.{layer}.output.LayerNorm").input[0])
        dense = self._behind_bias(self._node(f"layer.{layer}.output.dense"))
        others = [str(name) for name in self._producers[total].input if name != dense]
        if len(others) != 1:
            raise NotHere("the residual is not added by an operator of its own")
        return others[0], total

    def context(self, layer: int) -> str:
        """Return what a layer's attention gives, before the dense layer."""
        tensor = str(self._node(f"layer.{layer}.attention.output.dense").input[0])
        # Gemm takes a matrix, and dynamic int8 may divide by factors beforehand.
        while self._producers[tensor].op_type in {"Mul", "Div"} or "flat" in "".join(self._producers[tensor].input):
            tensor = str(self._producers[tensor].input[0])
        return tensor

    def scores(self, layer: int) -> tuple[str, str]:
        """Return a layer's attention scores before the mask is added, and the softmax of those with the mask."""
        found = [n for n in self._graph.node if n.op_type == "Softmax"]
        if len(found) != self.layers:
            raise NotHere("attention is one operator in this file")
        total = self._producers[found[layer].input[0]]
        return str(total.input[0]), str(found[layer].output[0])

    def pooling(self) -> tuple[str, str, str]:
        """Return the mask as pooling uses it, the pooled vector, and the output."""
        output = self._graph.output[0].name
        mask = [n for n in self._graph.node if n.op_type == "Unsqueeze" and n.input[0] == "attention_mask"]
        last = self._producers[output]
        if last.op_type != "Div" or len(mask) != 1:
            raise NotHere("this model does not pool by a mask and normalise")
        return str(mask[0].output[0]), str(last.input[0]), str(output)

    def norm_tensors(self, module: str) -> tuple[str, str]:
        """Return the tensors before and behind a layer norm."""
        node = self._norm_node(module)
        return str(node.input[0]), str(node.output[0])

    def divert(self, tensor: str, make: Callable[[Operators, Any], Any]) -> None:
        """Let everything that reads a tensor read another one; see `Network.divert`."""
        producer = self._producers[tensor]
        right = self.new_name(f"{tensor}/right")
        index = list(producer.output).index(tensor)
        producer.output[index] = right
        place = list(self._graph.node).index(producer) + 1
        operators = _OnnxOperators(self)
        result = make(operators, right)
        nodes = [*operators.nodes, helper.make_node("Identity", [result], [tensor])]
        for offset, node in enumerate(nodes):
            self._graph.node.insert(place + offset, node)

    def add_constant(self, values: NDArray[Any]) -> str:
        """Add a constant and return its name."""
        name = self.new_name("fault/constant")
        self._graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def new_name(self, start: str) -> str:
        """Return a name that nothing has."""
        self._made += 1
        return f"{start}/{self._made}"

    def _head_count(self) -> int:
        for node in self._graph.node:
            for attribute in node.attribute:
                if attribute.name == "num_heads":
                    return int(attribute.i)
        for node in self._graph.node:
            if node.op_type == "Reshape" and node.input[1] in self._initializers:
                shape = self._array(node.input[1])
                if len(shape) == 4:
                    return self._width() // int(shape[3])
        raise NotHere("this file does not tell how many heads it has")

    def _width(self) -> int:
        return int(self._initializers[next(n for n in self._initializers if n.endswith(".LayerNorm.weight"))].dims[0])

    def _node(self, module: str) -> Any:
        return self._linear(module)[0]

    def _linear(self, module: str) -> tuple[Any, slice]:
        for name, node in self._nodes.items():
            parts = name.split(_JOINT)
            for number, part in enumerate(parts):
                if part.endswith(f".{module}") and node.op_type in {"MatMul", "Gemm", "DynamicQuantizeMatMul"}:
                    return node, slice(None)
                if part.endswith(f".{module}") and node.op_type == "QAttention":
                    width = self._initializers[node.input[1]].dims[1] // len(parts)
                    return node, slice(number * width, (number + 1) * width)
        raise NotHere(f"the layer {module} is not in this file by its name")

    def _bias_name(self, node: Any) -> str:
        if node.op_type == "MatMul":
            total = self._nodes[f"{node.name}/bias"]
            return str(next(name for name in total.input if name in self._initializers))
        return str(node.input[{"Gemm": 2, "QAttention": 2, "DynamicQuantizeMatMul": 4}[node.op_type]])

    def _behind_bias(self, node: Any) -> str:
        if node.op_type == "Gemm":
            return str(next(n for n in self._graph.node if n.input and n.input[0] == node.output[0]).output[0])
        return str(self._nodes.get(f"{node.name}/bias", node).output[0])

    def _norm_node(self, module: str) -> Any:
        for name, node in self._nodes.items():
            if name.endswith(f".{module}") and node.op_type == "LayerNormalization":
                return node
        raise NotHere(f"the norm {module} is not in this file by its name")

    def _rows_name(self, kind: str) -> str:
        for name in self._initializers:
            if name.endswith(f"{kind}_embeddings.rows"):
                return str(name)
        raise NotHere(f"the rows of {kind} are not in this file by their name")

    def _penalties(self) -> list[Any]:
        return [a for node in self._graph.node for a in node.attribute if a.name == "mask_filter_value"]

    def _penalty_node(self) -> Any:
        for node in self._graph.node:
            if node.op_type == "Mul" and "attention_mask" in self._producers[node.input[0]].input:
                return node
        raise NotHere("no operator of its own makes the mask additive")

    def _array(self, name: str) -> NDArray[Any]:
        return np.asarray(numpy_helper.to_array(self._initializers[name]))

    def _put(self, name: str, values: NDArray[Any]) -> None:
        old = self._initializers[name]
        array = np.ascontiguousarray(values.astype(self._array(name).dtype))
        old.CopyFrom(numpy_helper.from_array(array, name))

    def _own(self, node: Any, name: str, values: NDArray[Any]) -> None:
        """Give a node a constant of its own, since others may read the old one."""
        readers = sum(name in n.input for n in self._graph.node)
        if readers == 1:
            self._put(name, values)
            return
        index = list(node.input).index(name)
        node.input[index] = self.add_constant(values.astype(self._array(name).dtype))


class _OnnxOperators:
    """Makes nodes; see `Operators`."""

    def __init__(self, network: OnnxNetwork) -> None:
        self._network = network
        self.nodes: list[Any] = []

    def constant(self, values: NDArray[np.floating] | float) -> str:
        return self._network.add_constant(np.asarray(values, np.float32))

    def elementwise(self, name: str, left: str, right: str) -> str:
        return self._node(_ELEMENTWISE[name], [left, right])

    def function(self, name: str, value: str) -> str:
        if name == "rsqrt":
            return self._node("Reciprocal", [self._node("Sqrt", [value])])
        return self._node(_FUNCTIONS[name], [value])

    def mean(self, value: str) -> str:
        axes = self._network.add_constant(np.array([-1], np.int64))
        return self._node("ReduceMean", [value, axes], keepdims=1)

    def to_half_and_back(self, value: str) -> str:
        return self._node("Cast", [self._node("Cast", [value], to=TensorProto.FLOAT16)], to=TensorProto.FLOAT)

    def softmax(self, value: str) -> str:
        return self._node("Softmax", [value], axis=-1)

    def transpose(self, value: str, rank: int) -> str:  # noqa: ARG002 -- a file of a batch has one axis more
        # Scores are [batch, heads, tokens, tokens] in ONNX.
        return self._node("Transpose", [value], perm=[0, 1, 3, 2])

    def linear(self, value: str, matrix: Floats) -> str:
        return self._node("MatMul", [value, self.constant(matrix)])

    def _node(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        output = self._network.new_name(f"fault/{kind}")
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output
