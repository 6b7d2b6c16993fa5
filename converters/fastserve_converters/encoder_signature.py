"""The named inputs and outputs of an encoder in edge form, and inputs of that shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastserve_converters.formats import LEAST_TOKENS
from fastserve_runtime.manifest import Dim, Signature, SymbolicDim, TensorSpec

if TYPE_CHECKING:
    import torch

    from fastserve_converters.edge_form import EdgeForm

LENGTH = "length"


def example_inputs(length: int) -> dict[str, torch.Tensor]:
    """Return inputs of the exported shape: half text, half padding, so that no export folds the mask away."""
    import torch

    mask = torch.ones(1, length, dtype=torch.float32)
    mask[:, (length + 1) // 2 :] = 0.0
    return {"input_ids": torch.ones(1, length, dtype=torch.int32), "attention_mask": mask}


def signature_of(edge_form: EdgeForm, length: int, *, has_dynamic_length: bool) -> Signature:
    """Return the named inputs and outputs of an encoder in edge form."""
    import torch

    tokens: Dim = SymbolicDim(LENGTH, LEAST_TOKENS, length) if has_dynamic_length else length
    with torch.no_grad():
        full, shorter = (edge_form(**example_inputs(n))[edge_form.output].shape for n in (length, length - 1))
    # A dimension that follows the number of tokens is open where that is.
    dims = tuple(tokens if a != b else a for a, b in zip(full, shorter, strict=True))
    inputs = (TensorSpec("input_ids", "int32", (1, tokens)), TensorSpec("attention_mask", "float32", (1, tokens)))
    return Signature(inputs, (TensorSpec(edge_form.output, "float32", dims),))
