"""Which tensors of a TFLite file are the outputs of which torch layers, and their values on given inputs.

The converter names constants by numbers and gives the layers of one attention the same name, so layers are told by
their weights, and their outputs are named `layer/`, the module's name and `;` when a model is converted. Tools that
add tensors put something behind that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.formats.tflite.file import (
    constant_of,
    narrowed_int64,
    operators,
    read_model,
    serialized,
    tensor_name,
    type_name,
)
from fastserve_converters.formats.tflite.form import TABLE

if TYPE_CHECKING:
    import torch

Sample = Mapping[str, NDArray[Any]]
"""Inputs by name, each of shape [1, tokens]."""

_PREFIX = "layer/"
_WEIGHT_INPUT = {"FULLY_CONNECTED": 1, "EMBEDDING_LOOKUP": 1}


def find_layers(model: Any, module: torch.nn.Module) -> Iterator[tuple[str, Any, Any]]:
    """Yield a float model's linear layers and embeddings: torch module name, graph and operator.

    Args:
        model: as `read_model` gives it.
        module: what it was converted from.
    """
    import torch

    by_content: dict[bytes, list[str]] = {}
    for name, layer in module.named_modules():
        if isinstance(layer, (torch.nn.Linear, torch.nn.Embedding)):
            weight = np.asarray(layer.weight.detach().numpy(), np.float32)
            by_content.setdefault(_content(weight.shape, weight), []).append(name)
    for graph, operator, kind in operators(model):
        if kind not in _WEIGHT_INPUT:
            continue
        tensor = weight_tensor(graph, operator)
        values = constant_of(model, tensor) if type_name(tensor) == "FLOAT32" else None
        if values is not None:
            # Equal weights are shared in the file; which of their layers it is makes no difference to them.
            for name in by_content.get(_content(tuple(tensor.shape), values), ()):
                yield name, graph, operator


def weight_tensor(graph: Any, operator: Any) -> Any:
    """Return the tensor of an operator's weights."""
    return graph.tensors[operator.inputs[1]]


def name_layer_outputs(model: Any, module: torch.nn.Module) -> None:
    """Name the outputs of linear layers and embeddings by their modules; a layer that is used again gets a number."""
    taken: dict[str, int] = {}
    for name, graph, operator in find_layers(model, module):
        output = graph.tensors[operator.outputs[0]]
        if tensor_name(output).startswith(_PREFIX):
            continue
        taken[name] = taken.get(name, 0) + 1
        number = "" if taken[name] == 1 else str(taken[name])
        output.name = f"{_PREFIX}{name.removesuffix(f'.{TABLE}')};{number}".encode()


def module_of(tensor: str) -> str | None:
    """Return the torch module that a layer's output belongs to, or None for another tensor."""
    return tensor.removeprefix(_PREFIX).partition(";")[0] if tensor.startswith(_PREFIX) else None


def layer_tensors(path: Path) -> dict[str, str]:
    """Return torch module name → name of its output, for the linear layers and embeddings of a TFLite file.

    A layer that is used several times has its first output here.
    """
    names = [tensor_name(t) for graph in read_model(path).subgraphs for t in graph.tensors]
    return {module: n for n in names if n.endswith(";") and (module := module_of(n)) is not None}


def layer_reader(
    path: Path, tensors: Mapping[str, str], factors: Mapping[str, float] | None = None
) -> Callable[[Sample], dict[str, NDArray[np.float32]]]:
    """Return what gives a file's tensors from inside for one sample, by the kernels that it usually runs on.

    Args:
        path: the file.
        tensors: torch module name → tensor, as `layer_tensors` gives them.
        factors: torch module name → what its output was multiplied with in this form; see `Form.factors`.

    Returns:
        A function from inputs by name to torch module name → float32 values, a row for each token (one for a head).
    """
    from ai_edge_litert.interpreter import Interpreter

    model = read_model(path)
    (graph,) = model.subgraphs
    indices = {tensor_name(t): i for i, t in enumerate(graph.tensors)}
    wanted = {module: indices[tensor] for module, tensor in tensors.items()}
    # What is no output may be fused away or overwritten.
    graph.outputs = [*graph.outputs, *sorted(set(wanted.values()) - set(graph.outputs))]
    interpreter = Interpreter(model_content=serialized(model), num_threads=1)
    runner = interpreter.get_signature_runner()
    scale = factors or {}

    def read(sample: Sample) -> dict[str, NDArray[np.float32]]:
        runner(**narrowed_int64(sample))
        values = {module: _real(interpreter, index) for module, index in wanted.items()}
        return {m: v.reshape(-1, v.shape[-1]) / np.float32(scale.get(m, 1.0)) for m, v in values.items()}

    return read


def _real(interpreter: Any, index: int) -> NDArray[np.float32]:
    value = interpreter.get_tensor(index)
    scale, zero_point = interpreter._get_tensor_details(index, 0)["quantization"]
    if np.issubdtype(value.dtype, np.floating):
        return np.asarray(value, np.float32)
    return np.asarray((value.astype(np.float32) - zero_point) * scale, np.float32)


def _content(shape: tuple[int, ...], values: NDArray[np.float32]) -> bytes:
    return sha256(repr([int(d) for d in shape]).encode() + np.ascontiguousarray(values).tobytes()).digest()
