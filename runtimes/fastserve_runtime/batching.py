"""Running many samples through a graph that takes a fixed number of them, or up to some number, at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastserve_runtime.manifest import Signature
from fastserve_runtime.session import Session

if TYPE_CHECKING:
    from fastserve_runtime.session import Tensor, Tensors

LARGEST_BATCH = 32
"""Samples in one call of a graph that leaves their number open: more gains little and costs memory."""


def run_samples(session: Session, inputs: Tensors) -> dict[str, Tensor]:
    """Run samples through a session's first graph; outputs are joined on the first axis.

    A graph for exactly n samples gets n at a time; the last call is filled up with copies of its last sample, whose
    outputs are dropped.

    Args:
        session: a model whose inputs have the samples along the first dimension.
        inputs: by name, shape [samples, ...], at least one sample; inputs that the graph does not take are left out.
    """
    graph = next(iter(session.graphs))
    signature = session.graphs[graph]
    taken = {spec.name: inputs[spec.name] for spec in signature.inputs if spec.name in inputs}
    count = len(next(iter(taken.values())))
    size, is_fixed = batch_size(signature)
    parts = []
    for start in range(0, count, size):
        rows = {name: value[start : start + size] for name, value in taken.items()}
        present = min(size, count - start)
        if is_fixed and present < size:
            rows = {n: np.concatenate([v, np.repeat(v[-1:], size - present, axis=0)]) for n, v in rows.items()}
        outputs = session.run(rows, graph=graph)
        parts.append({name: value[:present] for name, value in outputs.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def batch_size(signature: Signature) -> tuple[int, bool]:
    """Return how many samples a graph takes at a time, and whether it takes exactly so many."""
    first = signature.inputs[0].dims[0]
    if isinstance(first, int):
        return max(first, 1), True
    return max(1, min(first.max, LARGEST_BATCH)), False
