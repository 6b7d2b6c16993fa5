"""Linear layers as they stand in a graph: found by name, replaced, and written as Gemm where they stay in float."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastserve_converters.formats.onnx.portable import BIAS
from fastserve_converters.formats.onnx.quantized_weights import Initializers

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class Linear:
    """A linear layer.

    Attributes:
        product: its MatMul.
        sum: the node that adds its bias, if it has one.
    """

    product: ir.Node
    sum: ir.Node | None

    @property
    def name(self) -> str:
        """The torch module, and the number of the call from the second on."""
        return str(self.product.name)

    @property
    def nodes(self) -> list[ir.Node]:
        """Its nodes, in order."""
        return [self.product, *([self.sum] if self.sum is not None else [])]

    @property
    def input(self) -> ir.Value:
        """What it multiplies."""
        value = self.product.inputs[0]
        assert value is not None
        return value

    @property
    def output(self) -> ir.Value:
        """Its output, with the bias."""
        return self.nodes[-1].outputs[0]

    @property
    def bias(self) -> ir.Value | None:
        """Its bias, if it has one."""
        if self.sum is None:
            return None
        return next(i for i in self.sum.inputs if i is not None and i is not self.product.outputs[0])

    @property
    def shape(self) -> tuple[int, int]:
        """Inputs and outputs."""
        matrix = self.product.inputs[1]
        assert matrix is not None
        assert matrix.shape is not None
        rows, columns = matrix.shape.numpy()
        return rows, columns


def find_linears(model: ir.Model) -> list[Linear]:
    """Return the linear layers of a graph after `portable.name_layers`, in its order."""
    sums = {str(n.name).removesuffix(BIAS): n for n in model.graph if str(n.name).endswith(BIAS)}
    return [Linear(n, sums.get(str(n.name))) for n in model.graph if n.op_type == "MatMul" and "." in str(n.name)]


def write_float_linears(model: ir.Model) -> int:
    """Write the float layers as Gemm, which adds the bias while it multiplies, in place; return how many there were.

    ONNX Runtime does so itself for static shapes only, and otherwise joins the bias with a GELU that follows it to an
    operator that is slower than the plain GELU.
    """
    from onnx_ir import tape as tapes

    found = [linear for linear in find_linears(model) if linear.bias is not None and _rank(linear.input) == 3]
    for linear in found:
        tape, initializers = tapes.Tape(), Initializers(model.graph)
        matrix = linear.product.inputs[1]
        rows, columns = linear.shape
        flat = initializers.add(f"flat_{rows}", np.array([-1, rows], np.int64))
        back = initializers.add(f"batch_{columns}", np.array([1, -1, columns], np.int64))
        product = tape.op("Gemm", [tape.op("Reshape", [linear.input, flat]), matrix, linear.bias], name=linear.name)
        replace(model.graph, linear.nodes, linear.output, tape, tape.op("Reshape", [product, back]))
    return len(found)


def replace(graph: ir.Graph, old: Sequence[ir.Node], value: ir.Value, tape: Any, output: ir.Value) -> None:
    """Put the tape's nodes where the last of the old ones stands, under the same output name."""
    from onnx_ir import convenience

    last = max(old, key=lambda n: _position(graph, n))
    convenience.replace_nodes_and_values(graph, last, list(old), list(tape.nodes), [value], [output])


def _rank(value: ir.Value) -> int | None:
    return None if value.shape is None else len(value.shape)


def _position(graph: ir.Graph, node: ir.Node) -> int:
    return next(i for i, n in enumerate(graph) if n is node)
