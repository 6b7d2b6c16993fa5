"""Taking columns of a tensor with an open dimension, in a way whose shape the interpreter knows before it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastserve_converters.formats.tflite.file import constant_of, operator_name

if TYPE_CHECKING:
    from numpy.typing import NDArray


def gather_parts(model: Any) -> None:
    """Write GATHER for each SLICE that takes a part of one known dimension, beside an open one that it takes whole.

    The interpreter leaves the shape that SLICE gives for later where its input has an open dimension, constants or not
    (`slice.cc`), and delegates for GPUs then refuse the whole graph. That of GATHER is known at once. Such a SLICE
    stands behind heads whose outputs are columns of one layer, as those for answers are.

    Args:
        model: as `read_model` gives it; it is changed.
    """
    from ai_edge_litert import schema_py_generated as schema

    code: int | None = None
    for graph in model.subgraphs:
        for operator in graph.operators:
            part = _known_part(model, graph, operator)
            if part is None:
                continue
            if code is None:
                code = len(model.operatorCodes)
                gather = schema.OperatorCodeT()
                gather.builtinCode = gather.deprecatedBuiltinCode = schema.BuiltinOperator.GATHER
                gather.version = 1
                model.operatorCodes.append(gather)
            axis, indices = part
            buffer, tensor = schema.BufferT(), schema.TensorT()
            buffer.data = np.frombuffer(indices.tobytes(), np.uint8)
            model.buffers.append(buffer)
            tensor.name = f"indices_{len(graph.tensors)}".encode()
            tensor.type, tensor.shape, tensor.hasRank = schema.TensorType.INT32, [len(indices)], True
            tensor.buffer = len(model.buffers) - 1
            graph.tensors.append(tensor)
            operator.opcodeIndex = code
            operator.inputs = [operator.inputs[0], len(graph.tensors) - 1]
            operator.builtinOptionsType = schema.BuiltinOptions.GatherOptions
            operator.builtinOptions = schema.GatherOptionsT()
            operator.builtinOptions.axis = axis


def _known_part(model: Any, graph: Any, operator: Any) -> tuple[int, NDArray[np.int32]] | None:
    """Return which indices of which axis an operator takes, where it is a SLICE for `gather_parts`; else None."""
    if operator_name(model, operator) != "SLICE":
        return None
    given = graph.tensors[operator.inputs[0]]
    dims = given.shapeSignature
    begin, size = (constant_of(model, graph.tensors[index]) for index in operator.inputs[1:])
    if dims is None or -1 not in dims or begin is None or size is None:
        return None
    parts = [axis for axis, dim in enumerate(dims) if begin[axis] or size[axis] not in (-1, dim)]
    if len(parts) != 1 or dims[parts[0]] == -1:
        return None
    (axis,) = parts
    end = dims[axis] if size[axis] == -1 else begin[axis] + size[axis]
    return axis, np.arange(begin[axis], end, dtype=np.int32)
