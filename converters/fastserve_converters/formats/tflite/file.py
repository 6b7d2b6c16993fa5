"""TFLite files as Python objects (schema.fbs), by LiteRT's own reader and writer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DTYPES = {"FLOAT32": np.float32, "INT32": np.int32, "INT64": np.int64, "INT8": np.int8, "FLOAT16": np.float16}


def read_model(path: Path) -> Any:
    """Return a model as a `ModelT`."""
    from ai_edge_litert.tools import flatbuffer_utils

    return flatbuffer_utils.read_model(str(path))


def write_model(model: Any, path: Path) -> None:
    """Write a `ModelT`."""
    from ai_edge_litert.tools import flatbuffer_utils

    flatbuffer_utils.write_model(model, str(path))


def serialized(model: Any) -> bytes:
    """Return a `ModelT` as the content of a file."""
    from ai_edge_litert.tools import flatbuffer_utils

    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


@cache
def _names(enumeration: str) -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    listed = vars(getattr(schema, enumeration)).items()
    return {value: name for name, value in listed if not name.startswith("_")}


def operator_name(model: Any, operator: Any) -> str:
    """Return an operator's name, such as `FULLY_CONNECTED`; a custom one's is `CUSTOM`."""
    code = model.operatorCodes[operator.opcodeIndex]
    # Files for old runtimes keep small codes in the deprecated byte.
    return _names("BuiltinOperator")[max(code.builtinCode, code.deprecatedBuiltinCode)]


def operators(model: Any) -> Iterator[tuple[Any, Any, str]]:
    """Yield graph, operator and its name, for all operators."""
    for graph in model.subgraphs:
        for operator in graph.operators:
            yield graph, operator, operator_name(model, operator)


def tensor_name(tensor: Any) -> str:
    """Return a tensor's name."""
    return tensor.name.decode() if isinstance(tensor.name, bytes) else str(tensor.name)


def type_name(tensor: Any) -> str:
    """Return the name of a tensor's type, such as `INT8`."""
    return _names("TensorType")[tensor.type]


def constant_of(model: Any, tensor: Any) -> NDArray[Any] | None:
    """Return a constant's values, or None where a tensor is no constant or of a type that numpy lacks."""
    data = model.buffers[tensor.buffer].data
    dtype = _DTYPES.get(type_name(tensor))
    if data is None or len(data) == 0 or dtype is None:
        return None
    return np.frombuffer(bytes(data), dtype)


def narrowed_int64(sample: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    """Return inputs with integers of 32 bits in the place of those of 64, which files do not take."""
    return {name: value.astype(np.int32) if value.dtype == np.int64 else value for name, value in sample.items()}


def count_all(model: Any) -> Counter[tuple[str, str, int]]:
    """Count the operators of all graphs by (domain, name, version)."""
    counts: Counter[tuple[str, str, int]] = Counter()
    for _, operator, name in operators(model):
        code = model.operatorCodes[operator.opcodeIndex]
        custom = code.customCode
        counts[("custom", custom.decode(), code.version) if custom else ("tflite", name, code.version)] += 1
    return counts


def has_quantized_tensors(model: Any) -> bool:
    """Whether a tensor of a model stands for others by a scale."""
    tensors = (tensor for graph in model.subgraphs for tensor in graph.tensors)
    return any(t.quantization is not None and t.quantization.scale is not None for t in tensors)
