"""Which dimensions of a program's inputs stay open, in the words of `torch.export`."""

from __future__ import annotations

from typing import Any

from fastserve_runtime.bundle.tensor_specs import Signature, SymbolicDim

MIN_TOKENS = 2
"""The fewest tokens of a graph of dynamic length: PyTorch would take 1 for a constant."""


def dynamic_shapes(signature: Signature) -> dict[str, dict[int, Any]] | None:
    """Return what `torch.export.export` takes as `dynamic_shapes`: input → axis → its `torch.export.Dim`.

    Args:
        signature: names and dims of the inputs; dims of one symbol are one dimension.

    Returns:
        None where every dimension is fixed.
    """
    import torch

    symbols: dict[str, Any] = {}
    shapes: dict[str, dict[int, Any]] = {}
    for tensor in signature.inputs:
        shapes[tensor.name] = {}
        for axis, dim in enumerate(tensor.dims):
            if isinstance(dim, SymbolicDim):
                minimum, maximum = -(-dim.min // dim.step), dim.max // dim.step
                symbol = symbols.setdefault(dim.symbol, torch.export.Dim(dim.symbol, min=minimum, max=maximum))
                shapes[tensor.name][axis] = symbol if dim.step == 1 else dim.step * symbol
    return shapes if symbols else None
