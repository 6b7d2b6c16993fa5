"""Samples along the first axis, as data and goldens have them, and where a graph has its batch axis.

A tensor may have that axis elsewhere, as recurrent networks do, or not at all: its graph then takes one sample a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastserve_runtime.bundle.axes import batch_place
from fastserve_runtime.bundle.tensor_specs import Signature

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Tensor, Tensors


def is_batched(signature: Signature) -> bool:
    """Whether all inputs and outputs of a graph have a batch axis, so that one call may take several samples."""
    return all(batch_place(spec) is not None for spec in (*signature.inputs, *signature.outputs))


def as_call(samples: Tensors, signature: Signature) -> dict[str, Tensor]:
    """Return samples as a graph takes them.

    Args:
        samples: by name, shape [samples, ...]; one sample where the graph is not batched.
        signature: the graph's; inputs that it does not have stay as they are.
    """
    specs = {spec.name: spec for spec in signature.inputs}
    return {
        name: _batch_moved(value, batch_place(specs[name])) if name in specs else value
        for name, value in samples.items()
    }


def as_samples(outputs: Tensors, signature: Signature) -> dict[str, Tensor]:
    """Return a graph's outputs with the samples along the first axis, shape [samples, ...] each."""
    specs = {spec.name: spec for spec in signature.outputs}
    return {
        name: _batch_first(value, batch_place(specs[name])) if name in specs else value
        for name, value in outputs.items()
    }


def _batch_moved(value: Tensor, place: int | None) -> Tensor:
    if place == 0:
        return value
    # Not ascontiguousarray: it makes a scalar an array of one dimension.
    return np.asarray(value[0] if place is None else np.moveaxis(value, 0, place), order="C")


def _batch_first(value: Tensor, place: int | None) -> Tensor:
    if place == 0:
        return value
    return value[None] if place is None else np.ascontiguousarray(np.moveaxis(value, place, 0))
