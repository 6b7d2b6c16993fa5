"""Converting with litert-torch to a graph that takes any number of tokens.

litert-torch lowers each operator through JAX, which knows fixed shapes only. The interpreter, though, works out all
shapes again when an input is resized, and only the constants of RESHAPE and SLICE hold it to a length. So the model is
converted at a length that is a prime and divides no other dimension: a multiple of it in those constants is the length,
and is replaced by -1, which stands for whatever is left.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastserve_converters.formats.tflite.file import constant_of, operator_name, read_model, write_model
from fastserve_converters.formats.tflite.gathering import gather_parts
from fastserve_converters.formats.tflite.intermediates import name_apart
from fastserve_converters.formats.tflite.layers import name_layer_outputs
from fastserve_converters.models.encoder_inputs import sample_inputs
from fastserve_runtime.errors import EnvironmentFailure

if TYPE_CHECKING:
    import torch

_SHAPE_INPUTS = {("RESHAPE", 1), ("SLICE", 2)}
"""Operator and number of the input whose entries may be -1."""
_LARGEST_SHAPE = 8
_TOLERANCE = 1e-5
_REPORT = "Please report it with the checkpoint's config."


def convert(module: torch.nn.Module, length: int, path: Path, more: Collection[str] = ()) -> None:
    """Write a model whose inputs (`input_ids`, `attention_mask`, …) may have any number of tokens up to a length.

    Args:
        module: a form without constants that depend on the number of tokens.
        length: the most tokens.
        path: of the file to write.
        more: inputs that the module takes too, such as `token_type_ids`; see `encoder_inputs`.

    Raises:
        EnvironmentFailure: the result would not compute what the module does.
    """
    import litert_torch

    traced = tracing_length(module, length)
    # Keyword arguments and a dictionary of outputs give the signature its names.
    example = _example(traced, traced, more)
    litert_torch.convert(module, sample_kwargs=example).export(str(path))
    model = read_model(path)
    open_length(model, traced)
    gather_parts(model)
    name_layer_outputs(model, module)
    name_apart(model)
    write_model(model, path)
    prove_equal(module, path, {max(1, length // 3), length}, more)


def tracing_length(module: torch.nn.Module, length: int) -> int:
    """Return the largest prime up to a length that divides no dimension of the module's weights.

    Raises:
        EnvironmentFailure: there is none.
    """
    import torch

    dims = {
        d
        for layer in module.modules()
        if not isinstance(layer, torch.nn.Embedding)
        for parameter in layer.parameters(recurse=False)
        for d in parameter.shape
        if d > 1
    }
    for candidate in range(length, 2, -1):
        is_prime = all(candidate % d for d in range(2, int(candidate**0.5) + 1))
        if is_prime and all(d % candidate for d in dims):
            return candidate
    raise EnvironmentFailure(f"No length up to {length} tells the number of tokens from other dimensions.", _REPORT)


def open_length(model: Any, length: int) -> None:
    """Replace a length in a model's constants and shapes by what is left to the interpreter.

    Args:
        model: as `read_model` gives it; it is changed.
        length: a prime that divides no other dimension.

    Raises:
        EnvironmentFailure: it stands in a constant where it cannot be left open.
    """
    for graph in model.subgraphs:
        for operator in graph.operators:
            for number, index in enumerate(operator.inputs):
                if index >= 0:
                    _open_input(model, graph.tensors[index], operator_name(model, operator), number, length)
            options = operator.builtinOptions
            if getattr(options, "newShape", None) is not None:
                options.newShape = _opened(options.newShape, length)
        for tensor in graph.tensors:
            dims = _opened(tensor.shape if tensor.shape is not None else [], length)
            if -1 in dims:
                tensor.shapeSignature = dims


def _open_input(model: Any, tensor: Any, operator: str, number: int, length: int) -> None:
    values = constant_of(model, tensor)
    if values is None:
        return
    is_shape = values.dtype == np.int32 and values.size <= _LARGEST_SHAPE
    if (operator, number) in _SHAPE_INPUTS:
        opened = np.array(_opened(values, length), np.int32)
        if np.count_nonzero(opened == -1) > 1 and operator == "RESHAPE":
            raise EnvironmentFailure(
                f"The converter wrote a RESHAPE with the length twice: {values.tolist()}.", _REPORT
            )
        model.buffers[tensor.buffer].data = np.frombuffer(opened.tobytes(), np.uint8)
    elif (is_shape and -1 in _opened(values, length)) or -1 in _opened(tensor.shape, length):
        raise EnvironmentFailure(f"The converter wrote the number of tokens into a constant of {operator}.", _REPORT)


def _opened(dims: Any, length: int) -> list[int]:
    return [-1 if d and d % length == 0 else int(d) for d in dims]


def prove_equal(module: torch.nn.Module, path: Path, lengths: set[int], more: Collection[str] = ()) -> None:
    """Run a converted model at some lengths beside its module.

    Raises:
        EnvironmentFailure: they differ.
    """
    import torch
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(path), num_threads=1).get_signature_runner()
    for length in sorted(lengths):
        example = _example(length, max(1, length - 1), more)
        with torch.no_grad():
            expected = module(**example)
        actual = runner(**{name: value.numpy() for name, value in example.items()})
        for name, value in expected.items():
            # Behind the last token there is padding, whose values nobody reads.
            difference = np.abs(actual[name] - value.numpy())
            if not difference.max() <= _TOLERANCE * max(1.0, float(value.abs().max())):
                raise EnvironmentFailure(
                    f"The TFLite graph differs from the model by {difference.max():.2g} at {length} tokens.", _REPORT
                )


def _example(length: int, tokens: int, more: Collection[str]) -> Mapping[str, torch.Tensor]:
    import torch

    sample = sample_inputs(length, tokens, more)
    return {name: torch.from_numpy(value) for name, value in sample.items()}
