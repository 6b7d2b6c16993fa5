"""Converting any module with litert-torch: its inputs and outputs by name, its open axes left open."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastserve_converters.formats.tflite.file import read_model, write_model
from fastserve_converters.formats.tflite.intermediates import name_apart
from fastserve_converters.formats.tflite.layers import name_layer_outputs
from fastserve_converters.models.dynamic_shapes import dynamic_shapes
from fastserve_runtime.bundle.tensor_specs import Signature, TensorSpec
from fastserve_runtime.errors import EnvironmentFailure

if TYPE_CHECKING:
    import torch

    from fastserve_converters.models.model import TracedPart

_TOLERANCE = 1e-4
_NARROW = {"int64": "int32", "float64": "float32"}
"""What litert-torch makes of types that runtimes on devices do not have."""


def convert_program(module: torch.nn.Module, part: TracedPart, path: Path) -> None:
    """Write a module as a TFLite file.

    Args:
        module: the part's, or a copy of it.
        part: what is converted.
        path: of the file to write.

    Raises:
        EnvironmentFailure: the result does not compute what the module does.
    """
    import litert_torch

    converted = litert_torch.convert(
        module, sample_kwargs=dict(part.example), dynamic_shapes=dynamic_shapes(part.signature)
    )
    converted.export(str(path))
    model = read_model(path)
    name_layer_outputs(model, module)
    name_apart(model)
    write_model(model, path)
    _prove_equal(module, part, path)


def narrowed(signature: Signature) -> Signature:
    """Return a signature with the types that the file has."""
    return Signature(tuple(map(_narrowed, signature.inputs)), tuple(map(_narrowed, signature.outputs)))


def _narrowed(spec: TensorSpec) -> TensorSpec:
    return replace(spec, dtype=_NARROW.get(spec.dtype, spec.dtype))


def _prove_equal(module: torch.nn.Module, part: TracedPart, path: Path) -> None:
    import torch
    from ai_edge_litert.interpreter import Interpreter

    with torch.no_grad():
        expected = module(**part.example)
    runner = Interpreter(model_path=str(path), num_threads=1).get_signature_runner()
    dtypes = {spec.name: spec.dtype for spec in narrowed(part.signature).inputs}
    actual = runner(**{name: value.numpy().astype(dtypes[name]) for name, value in part.example.items()})
    for name, value in expected.items():
        wanted, found = np.asarray(value.numpy(), np.float64), np.asarray(actual[name], np.float64)
        difference = float(np.abs(found - wanted).max(initial=0.0)) if found.shape == wanted.shape else float("inf")
        if not difference <= _TOLERANCE * max(1.0, float(np.abs(wanted).max(initial=0.0))):
            raise EnvironmentFailure(
                f"The TFLite graph's '{name}' differs from the module's by {difference:.2g}.",
                "Export the other formats, and report it with the module.",
            )
