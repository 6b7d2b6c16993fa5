"""An encoder as a part of a model: its named inputs and outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastserve_converters.models.dynamic_shapes import MIN_TOKENS
from fastserve_converters.models.encoder_inputs import MORE_INPUTS, example_inputs
from fastserve_converters.models.model import TracedPart
from fastserve_runtime.bundle.axes import BATCH, TOKENS
from fastserve_runtime.bundle.tensor_specs import Dim, Signature, SymbolicDim, TensorSpec

if TYPE_CHECKING:
    import torch

    from fastserve_converters.checkpoints.task import ModelOutput
    from fastserve_converters.models.exportable_model import ExportableModel

LENGTH = "length"
_BATCH = 32


def encoder_part(exportable_model: ExportableModel, length: int) -> TracedPart:
    """Return an encoder as a part, whose number of tokens may be open up to the length."""
    import torch

    tokens = SymbolicDim(LENGTH, MIN_TOKENS, length)
    example = example_inputs(length, exportable_model.more_inputs)
    with torch.no_grad():
        shapes = {name: value.shape for name, value in exportable_model(**example).items()}
    dtypes = {"input_ids": "int32", "attention_mask": "float32"}
    dtypes |= {name: dtype for name, dtype in MORE_INPUTS.items() if name in exportable_model.more_inputs}
    inputs = [TensorSpec(name, dtype, (1, tokens), (BATCH, TOKENS)) for name, dtype in dtypes.items()]
    outputs = [_spec(output, shapes[output.name], tokens) for output in exportable_model.outputs]
    return TracedPart(exportable_model, example, Signature(tuple(inputs), tuple(outputs)), batch=_BATCH)


def _spec(output: ModelOutput, shape: torch.Size, tokens: Dim) -> TensorSpec:
    dims = (tokens if axis == TOKENS else size for axis, size in zip(output.axes, shape, strict=True))
    return TensorSpec(output.name, "float32", tuple(dims), output.axes)
