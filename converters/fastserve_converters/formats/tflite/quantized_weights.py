"""Writing a layer's quantized weights into a TFLite file, in place of its float weights.

FULLY_CONNECTED and EMBEDDING_LOOKUP take int8 and int4 weights with a scale for each row (LiteRT's quantization
specification), and int4 with a float16 scale for each block of a row (`BlockwiseQuantization` of schema.fbs).
FULLY_CONNECTED quantizes its input itself, row by row. Where products are to be made of floats, a DEQUANTIZE between
the weights and their operator says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.formats.tflite.file import constant_of, operators, type_name
from fastserve_converters.formats.tflite.layers import find_layers, weight_tensor
from fastserve_converters.quantization.weights import stored_scale
from fastserve_converters.quantized_weight import QuantizedWeight
from fastserve_runtime.errors import EnvironmentFailure

if TYPE_CHECKING:
    import torch

_MIN_BLOCK_SCALE = np.float32(2**-14)
"""The least normal float16: XNNPACK opens no file with a smaller scale, such as a block of zeros would have."""
_MIN_HALVED = 1024
"""Smaller constants stay in float32 where the rest becomes float16: they are biases and norms."""


def store_quantized_weights(model: Any, module: torch.nn.Module, weights: Mapping[str, QuantizedWeight]) -> None:
    """Replace weights by quantized ones.

    Args:
        model: the float model as a `ModelT`; it is changed.
        module: what it was converted from.
        weights: names of the module's layers → quantized weight.

    Raises:
        EnvironmentFailure: a layer's weights are not in the model.
    """
    found = {n: (graph, weight_tensor(graph, o)) for n, graph, o in find_layers(model, module) if n in weights}
    missing = sorted(weights.keys() - found.keys())
    if missing:
        raise EnvironmentFailure(
            f"The weights of the layer '{missing[0]}' cannot be found in the TFLite graph.",
            "Leave this layer in float.",
        )
    for name, (graph, tensor) in found.items():
        _store(model, graph, tensor, weights[name])


def round_inputs_with_zero_points(model: Any) -> None:
    """Tell executors to round the float inputs of integer layers as XNNPACK does anyway: by row, with a zero point.

    Others take symmetric scales unless they are told, which costs MiniLM 4 dB.
    """
    for graph, operator, name in operators(model):
        if name != "FULLY_CONNECTED":
            continue
        given, weight = (type_name(graph.tensors[i]) for i in operator.inputs[:2])
        if given == "FLOAT32" and weight in {"INT8", "INT4"}:
            operator.builtinOptions.asymmetricQuantizeInputs = True


def multiply_in_float(model: Any) -> None:
    """Put a DEQUANTIZE behind the integer weights of every linear layer."""
    for graph in model.subgraphs:
        quantized = {o.inputs[1] for g, o, name in operators(model) if g is graph and name == "FULLY_CONNECTED"}
        _dequantize(model, graph, [i for i in quantized if type_name(graph.tensors[i]) in {"INT8", "INT4"}])


def halve_floats(model: Any) -> None:
    """Store the large float32 constants in float16, with a DEQUANTIZE behind each."""
    from ai_edge_litert import schema_py_generated as schema

    for graph in model.subgraphs:
        halved = []
        for index, tensor in enumerate(graph.tensors):
            values = constant_of(model, tensor) if tensor.type == schema.TensorType.FLOAT32 else None
            if values is None or values.size < _MIN_HALVED:
                continue
            model.buffers[tensor.buffer].data = _bytes(values.astype(np.float16))
            tensor.type = schema.TensorType.FLOAT16
            halved.append(index)
        _dequantize(model, graph, halved)


def _store(model: Any, graph: Any, tensor: Any, weight: QuantizedWeight) -> None:
    from ai_edge_litert import schema_py_generated as schema

    check_symmetric(weight)
    rows, groups = weight.scale.shape
    values = weight.values
    quantization = schema.QuantizationParametersT()
    if groups == 1:
        quantization.scale = weight.scale.reshape(-1).astype(np.float32)
        quantization.zeroPoint = np.zeros(rows, np.int64)
    else:
        values, scale = stored_blocks(weight)
        quantization.detailsType = schema.QuantizationDetails.BlockwiseQuantization
        details = schema.BlockwiseQuantizationT()
        details.scales = _add_tensor(model, graph, tensor, b"_scales", "FLOAT16", list(scale.shape), _bytes(scale))
        details.zeroPoints = -1
        details.blockSize = values.shape[1] // groups
        quantization.details = details
    quantization.quantizedDimension = 0
    tensor.quantization = quantization
    tensor.type = schema.TensorType.INT8 if weight.scheme.bits == 8 else schema.TensorType.INT4
    model.buffers[tensor.buffer].data = _bytes(values if weight.scheme.bits == 8 else packed(values))


def check_symmetric(weight: QuantizedWeight) -> None:
    """Refuse quantized weights that LiteRT has no kernels for.

    Raises:
        EnvironmentFailure: they have zero points.
    """
    if np.any(weight.zero_point):
        raise EnvironmentFailure(
            "LiteRT's kernels of linear layers and embeddings take no zero points beside the scales of weights.",
            "Choose a symmetric scheme for TFLite.",
        )


def packed(values: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Return pairs of 4-bit integers in bytes, the first in the low half."""
    low, high = values.reshape(-1, 2).view(np.uint8).T
    return ((low & 0x0F) | (high << 4)).astype(np.uint8)


def stored_blocks(weight: QuantizedWeight) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Return quantized weights and scales of blocks as a file holds them.

    XNNPACK rounds the float16 scales of linear layers to bfloat16's eight bits; the scheme says so, and here it is done
    again where a scale was multiplied since. A block whose weights are too small for a normal float16 is rounded to the
    least one.
    """
    rows, groups = weight.scale.shape
    scale = stored_scale(np.maximum(weight.scale, _MIN_BLOCK_SCALE), weight.scheme)
    grown = np.where(weight.scale < _MIN_BLOCK_SCALE, weight.scale / scale, np.float32(1))
    blocks = np.rint(weight.values.reshape(rows, groups, -1) * grown[..., None])
    return blocks.reshape(rows, -1).astype(np.int8), scale.astype(np.float16)


def _add_tensor(
    model: Any, graph: Any, like: Any, suffix: bytes, kind: str, shape: list[int], data: NDArray[np.uint8] | None
) -> int:
    from ai_edge_litert import schema_py_generated as schema

    new = schema.TensorT()
    new.name = bytes(like.name) + suffix
    new.type = getattr(schema.TensorType, kind)
    new.shape = shape
    new.buffer = 0
    if data is not None:
        buffer = schema.BufferT()
        buffer.data = data
        model.buffers.append(buffer)
        new.buffer = len(model.buffers) - 1
    graph.tensors.append(new)
    return len(graph.tensors) - 1


def _dequantize(model: Any, graph: Any, constants: list[int]) -> None:
    """Put a DEQUANTIZE between constants and all that reads them."""
    from ai_edge_litert import schema_py_generated as schema

    if not constants:
        return
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = 3
    model.operatorCodes.append(code)
    added = []
    for index in constants:
        tensor = graph.tensors[index]
        real = _add_tensor(model, graph, tensor, b"_float", "FLOAT32", list(tensor.shape), None)
        for operator in graph.operators:
            operator.inputs = [real if i == index else i for i in operator.inputs]
        new = schema.OperatorT()
        new.opcodeIndex = len(model.operatorCodes) - 1
        new.inputs, new.outputs = [index], [real]
        new.builtinOptionsType = schema.BuiltinOptions.DequantizeOptions
        new.builtinOptions = schema.DequantizeOptionsT()
        added.append(new)
    graph.operators = [*added, *graph.operators]


def _bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
