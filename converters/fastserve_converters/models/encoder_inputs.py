"""Made-up inputs of an encoder, in the shapes that it is exported with."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastserve_runtime.bundle.raw_inputs import POOLING_MASK, TOKEN_TYPES

if TYPE_CHECKING:
    import torch

MORE_INPUTS: Mapping[str, str] = {TOKEN_TYPES: "int32", POOLING_MASK: "float32"}
"""What some models take beside the ids and their mask, by name in the order of the signature, and its dtype."""


def example_inputs(length: int, more: Collection[str] = ()) -> dict[str, torch.Tensor]:
    """Return inputs of the exported shape: half text, half padding, so that no export folds a mask away.

    Args:
        length: tokens.
        more: which of `MORE_INPUTS` the model takes.
    """
    import torch

    half, quarter = (length + 1) // 2, length // 4
    mask = torch.ones(1, length, dtype=torch.float32)
    mask[:, half:] = 0.0
    inputs = {"input_ids": torch.ones(1, length, dtype=torch.int32), "attention_mask": mask}
    if TOKEN_TYPES in more:
        inputs[TOKEN_TYPES] = torch.zeros(1, length, dtype=torch.int32)
        inputs[TOKEN_TYPES][:, quarter:half] = 1
    if POOLING_MASK in more:
        inputs[POOLING_MASK] = mask.clone()
        inputs[POOLING_MASK][:, :quarter] = 0.0
    return inputs


def sample_inputs(length: int, tokens: int, more: Collection[str] = ()) -> dict[str, NDArray[Any]]:
    """Return inputs of one sample that tell every token from the next, by name in the model's order.

    Args:
        length: with the padding.
        tokens: before the padding; the second half of them has the type 1, and a prompt is a third of them.
        more: which of `MORE_INPUTS` there are.
    """
    mask = np.zeros((1, length), np.float32)
    mask[:, :tokens] = 1.0
    inputs: dict[str, NDArray[Any]] = {
        "input_ids": np.arange(1, length + 1, dtype=np.int32)[None],
        "attention_mask": mask,
    }
    if TOKEN_TYPES in more:
        inputs[TOKEN_TYPES] = (mask * (np.arange(length) >= tokens // 2)).astype(np.int32)
    if POOLING_MASK in more:
        inputs[POOLING_MASK] = mask * (np.arange(length) >= tokens // 3).astype(np.float32)
    return inputs
