"""Writing a TFLite model for one number of tokens: compilers for microcontrollers take no open dimensions.

Nothing else changes. The shapes are those that LiteRT itself works out for inputs of that length.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastserve_runtime.errors import BundleError, one_line

_IDENTIFIER = b"TFL3"


def with_fixed_shapes(model: Path, signature: str, shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    """Return a model whose tensors have one shape each.

    Args:
        model: a TFLite file with one subgraph.
        signature: the name of its signature.
        shapes: of the inputs, by the signature's names.

    Raises:
        BundleError: it cannot be read, has several subgraphs, lacks the signature, or a shape depends on values.
    """
    schema = importlib.import_module("ai_edge_litert.schema_py_generated")
    try:
        content = schema.ModelT.InitFromPackedBuf(model.read_bytes(), 0)
        (graph,) = content.subgraphs
        entry = next(d for d in content.signatureDefs if d.signatureKey.decode() == signature)
        indices = {tensor.name.decode(): tensor.tensorIndex for tensor in entry.inputs}
        resized = _resized(model, {int(indices[name]): shape for name, shape in shapes.items()})
    except Exception as error:  # the schema's reader and LiteRT raise whatever they like
        raise BundleError(
            f"The TFLite model's shapes cannot be fixed: {one_line(error)}.", "Export it again."
        ) from error
    for tensor, shape in zip(graph.tensors, resized, strict=False):
        if tensor.shape is not None:
            tensor.shape = shape
        tensor.shapeSignature = None
    return _packed(content)


def _resized(model: Path, shapes: Mapping[int, tuple[int, ...]]) -> list[Any]:
    """Return the shapes of all tensors of the file, in their order; the interpreter adds its own behind them."""
    litert = importlib.import_module("ai_edge_litert.interpreter")
    interpreter = litert.Interpreter(
        model_path=str(model),
        num_threads=1,
        # A delegate would hide the tensors inside what it takes.
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    for index, shape in shapes.items():
        interpreter.resize_tensor_input(index, list(shape))
    interpreter.allocate_tensors()
    details = sorted(interpreter.get_tensor_details(), key=lambda d: d["index"])
    return [np.asarray(d["shape"], np.int32) for d in details]


def _packed(model: Any) -> bytes:
    flatbuffers = importlib.import_module("flatbuffers")
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())
