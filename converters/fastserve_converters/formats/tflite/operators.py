"""The operators that decoders are made of, with the shapes that they give; all but look-ups are taken by XNNPACK."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastserve_converters.formats.tflite.writing import OPEN, GraphWriter, Value

_DYNAMIC_INT8 = 9
"""The version of FULLY_CONNECTED that says how a float input is rounded."""


class Operators:
    """Adds operators to a graph, and returns what each gives."""

    def __init__(self, graph: GraphWriter) -> None:
        self.graph = graph

    def scalar(self, value: float) -> Value:
        """A constant of no dimensions."""
        return self.graph.constant(f"scalar {value!r}", np.array(value, np.float32))

    def add(self, a: Value, b: Value) -> Value:
        """`a + b`."""
        return self._elementwise("ADD", a, b, "AddOptions")

    def subtract(self, a: Value, b: Value) -> Value:
        """`a - b`."""
        return self._elementwise("SUB", a, b, "SubOptions")

    def multiply(self, a: Value, b: Value) -> Value:
        """`a * b`."""
        return self._elementwise("MUL", a, b, "MulOptions")

    def divide(self, a: Value, b: Value) -> Value:
        """`a / b`."""
        return self._elementwise("DIV", a, b, "DivOptions")

    def maximum(self, a: Value, b: Value) -> Value:
        """The larger of each two."""
        return self._elementwise("MAXIMUM", a, b, "MaximumMinimumOptions")

    def minimum(self, a: Value, b: Value) -> Value:
        """The smaller of each two."""
        return self._elementwise("MINIMUM", a, b, "MaximumMinimumOptions")

    def unary(self, name: str, x: Value, options: str | None = None, **settings: object) -> Value:
        """An operator that leaves the shape as it is."""
        return self.graph.operator(name, [x], x.shape, options, settings=settings)

    def reduce(self, name: str, x: Value) -> Value:
        """One number for each row of the last axis, which stays with the size 1."""
        last = len(x.shape) - 1
        axis = self.graph.constant(f"axis {last}", np.array([last], np.int32))
        shape = (*x.shape[:-1], 1)
        return self.graph.operator(name, [x, axis], shape, "ReducerOptions", settings={"keepDims": True})

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """The same numbers in another shape, at most one size of which is `OPEN`."""
        wanted = self.graph.constant(f"shape {list(shape)}", np.array(shape, np.int32))
        settings = {"newShape": list(shape)}
        return self.graph.operator("RESHAPE", [x, wanted], shape, "ReshapeOptions", settings=settings)

    def transpose(self, x: Value, order: Sequence[int]) -> Value:
        """Axes in another order."""
        wanted = self.graph.constant(f"order {list(order)}", np.array(order, np.int32))
        shape = [x.shape[axis] for axis in order]
        return self.graph.operator("TRANSPOSE", [x, wanted], shape, "TransposeOptions")

    def slice(self, x: Value, axis: int, start: int, size: int) -> Value:
        """A part along one axis."""
        rank = len(x.shape)
        begin = [start if a == axis else 0 for a in range(rank)]
        end = [start + size if a == axis else 0 for a in range(rank)]
        constants = [self.graph.constant(f"part {part}", np.array(part, np.int32)) for part in (begin, end, [1] * rank)]
        shape = [size if a == axis else s for a, s in enumerate(x.shape)]
        others = sum(1 << a for a in range(rank) if a != axis)
        settings = {"beginMask": others, "endMask": others}
        return self.graph.operator("STRIDED_SLICE", [x, *constants], shape, "StridedSliceOptions", settings=settings)

    def concatenate(self, parts: Sequence[Value], axis: int) -> Value:
        """Parts behind each other along an axis."""
        sizes = [part.shape[axis] for part in parts]
        total = OPEN if OPEN in sizes else sum(sizes)
        shape = [total if a == axis else s for a, s in enumerate(parts[0].shape)]
        settings = {"axis": axis}
        return self.graph.operator("CONCATENATION", parts, shape, "ConcatenationOptions", settings=settings)

    def gather(self, table: Value, indices: Value) -> Value:
        """Rows of a table."""
        shape = (*indices.shape, *table.shape[1:])
        return self.graph.operator("GATHER", [table, indices], shape, "GatherOptions", settings={"axis": 0})

    def look_up(self, table: Value, indices: Value) -> Value:
        """Rows of a table that may be integers."""
        return self.graph.operator("EMBEDDING_LOOKUP", [indices, table], (*indices.shape, table.shape[1]), version=4)

    def linear(self, x: Value, weight: Value, bias: Value | None, *, is_integer: bool) -> Value:
        """`x @ weight.T + bias`; an input of integer weights is rounded to 8 bits, row by row with a zero point."""
        return self.graph.operator(
            "FULLY_CONNECTED",
            [x, weight, bias],
            (*x.shape[:-1], weight.shape[0]),
            "FullyConnectedOptions",
            version=_DYNAMIC_INT8 if is_integer else 1,
            settings={"keepNumDims": True, "asymmetricQuantizeInputs": is_integer},
        )

    def product(self, a: Value, b: Value, *, transposed: bool = False) -> Value:
        """The matrices' products of the last two axes; `transposed` takes those of `b` the other way round."""
        columns = b.shape[-2] if transposed else b.shape[-1]
        settings = {"adjY": transposed}
        return self.graph.operator(
            "BATCH_MATMUL", [a, b], (*a.shape[:-1], columns), "BatchMatMulOptions", settings=settings
        )

    def _elementwise(self, name: str, a: Value, b: Value, options: str) -> Value:
        return self.graph.operator(name, [a, b], _broadcast(a.shape, b.shape), options)


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    rank = max(len(a), len(b))
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in (a, b)]
    return tuple(y if x == 1 else x for x, y in zip(*padded, strict=True))
