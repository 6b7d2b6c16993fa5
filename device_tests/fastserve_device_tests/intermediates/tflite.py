"""TFLite: tensors become outputs of the graph and of its signature."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastserve_device_tests.intermediates import Instrumented, Output
from fastserve_runtime.errors import BundleError, EnvironmentFailure
from fastserve_runtime.sessions.session import ModelSource

_PREFIX = "intermediate_"
_INTEGERS = {"INT8": "int8", "INT16": "int16", "UINT8": "uint8", "INT32": "int32"}


def instrumented(model: ModelSource, entry: str, tensors: Sequence[str]) -> Instrumented:
    """Return a model whose further outputs are these tensors; see `Intermediates`."""
    if not tensors:
        return Instrumented(model, {})
    schema, utilities = _library()
    content = model.read_bytes() if isinstance(model, Path) else bytes(model)
    tree: Any = utilities.read_model_from_bytearray(bytearray(content))
    signature = next((s for s in tree.signatureDefs or () if _text(s.signatureKey) == entry), None)
    if signature is None:
        raise BundleError(f"The TFLite model has no signature '{entry}'.", "Export the bundle again.")
    graph = tree.subgraphs[signature.subgraphIndex]
    # A graph's own output may be given a second name; two outputs that are one tensor are refused.
    known = {output.tensorIndex: _text(output.name) for output in signature.outputs}
    names = {_text(tensor.name): index for index, tensor in enumerate(graph.tensors)}
    given = {int(index) for operator in graph.operators for index in operator.outputs}
    types = {value: name for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
    outputs: dict[str, Output] = {}
    added: list[int] = []
    for number, tensor in enumerate(tensors):
        index = names.get(tensor)
        if index is None or index not in given:
            continue
        if index not in known:
            known[index] = f"{_PREFIX}{number}"
            added.append(index)
        outputs[tensor] = _output(known[index], graph.tensors[index], types)
    graph.outputs = [*(int(i) for i in graph.outputs), *added]
    for index in added:
        entry_map = schema.TensorMapT()
        entry_map.name, entry_map.tensorIndex = known[index].encode(), index
        signature.outputs.append(entry_map)
    return Instrumented(memoryview(bytes(utilities.convert_object_to_bytearray(tree))), outputs)


def _output(name: str, tensor: Any, types: dict[int, str]) -> Output:
    dtype = _INTEGERS.get(types[tensor.type])
    if dtype is None:
        return Output(name, "float32")
    quantization = tensor.quantization
    scales = [] if quantization is None or quantization.scale is None else list(quantization.scale)
    if len(scales) != 1:
        return Output(name, dtype)
    return Output(name, dtype, float(scales[0]), int(quantization.zeroPoint[0]))


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _library() -> tuple[Any, Any]:
    try:
        from ai_edge_litert import schema_py_generated
        from ai_edge_litert.tools import flatbuffer_utils
    except ImportError as error:
        raise EnvironmentFailure(
            f"LiteRT's reader of files cannot be imported: {error}.", "pip install ai-edge-litert."
        ) from error
    return schema_py_generated, flatbuffer_utils
