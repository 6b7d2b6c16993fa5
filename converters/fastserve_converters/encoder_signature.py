"""The named inputs and outputs of an encoder in edge form, and inputs of that shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.formats import LEAST_TOKENS
from fastserve_runtime.manifest import Dim, Signature, SymbolicDim, TensorSpec
from fastserve_runtime.text import TOKEN_TYPES

if TYPE_CHECKING:
    import torch

    from fastserve_converters.edge_form import EdgeForm

LENGTH = "length"


def example_inputs(length: int, *, has_token_types: bool = False) -> dict[str, torch.Tensor]:
    """Return inputs of the exported shape: half text, half padding, so that no export folds the mask away.

    Args:
        length: tokens.
        has_token_types: whether the model takes `token_type_ids` too.
    """
    import torch

    mask = torch.ones(1, length, dtype=torch.float32)
    mask[:, (length + 1) // 2 :] = 0.0
    inputs = {"input_ids": torch.ones(1, length, dtype=torch.int32), "attention_mask": mask}
    if has_token_types:
        inputs[TOKEN_TYPES] = torch.zeros(1, length, dtype=torch.int32)
        inputs[TOKEN_TYPES][:, length // 4 : (length + 1) // 2] = 1
    return inputs


def signature_of(edge_form: EdgeForm, length: int, *, has_dynamic_length: bool) -> Signature:
    """Return the named inputs and outputs of an encoder in edge form."""
    import torch

    tokens: Dim = SymbolicDim(LENGTH, LEAST_TOKENS, length) if has_dynamic_length else length
    with torch.no_grad():
        full, shorter = (
            edge_form(**example_inputs(n, has_token_types=edge_form.has_token_types))[edge_form.output].shape
            for n in (length, length - 1)
        )
    # A dimension that follows the number of tokens is open where that is.
    dims = tuple(tokens if a != b else a for a, b in zip(full, shorter, strict=True))
    inputs = [TensorSpec("input_ids", "int32", (1, tokens)), TensorSpec("attention_mask", "float32", (1, tokens))]
    if edge_form.has_token_types:
        inputs.append(TensorSpec(TOKEN_TYPES, "int32", (1, tokens)))
    return Signature(tuple(inputs), (TensorSpec(edge_form.output, "float32", dims),))


def sample_inputs(length: int, tokens: int, *, has_token_types: bool) -> dict[str, NDArray[Any]]:
    """Return inputs of one sample that tell every token from the next, by name in the model's order.

    Args:
        length: with the padding.
        tokens: before the padding; the second half of them has the type 1.
        has_token_types: whether there are types.
    """
    mask = np.zeros((1, length), np.float32)
    mask[:, :tokens] = 1.0
    inputs: dict[str, NDArray[Any]] = {
        "input_ids": np.arange(1, length + 1, dtype=np.int32)[None],
        "attention_mask": mask,
    }
    if has_token_types:
        inputs[TOKEN_TYPES] = (mask * (np.arange(length) >= tokens // 2)).astype(np.int32)
    return inputs
