"""Running many samples through a model that takes a fixed number of them, or up to some number, at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from fastserve_runtime.bundle.axes import batch_place
from fastserve_runtime.bundle.tensor_specs import Signature
from fastserve_runtime.sessions.lengths import (
    MASK,
    Fit,
    cut,
    filled_up,
    full_graph,
    graph_for,
    own_tokens,
    takes_tokens,
)
from fastserve_runtime.sessions.sample_axes import as_call, as_samples, is_batched
from fastserve_runtime.sessions.session import Session

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Tensor, Tensors

LARGEST_BATCH = 32
"""Samples in one call of a graph that leaves their number open: more gains little and costs memory."""


def run_samples(session: Session, inputs: Tensors, *, cut_padding: bool = True) -> dict[str, Tensor]:
    """Run samples through a session; outputs are joined on the first axis.

    Samples of like length go together. A graph for exactly n samples gets n at a time; the last call is filled up with
    copies of its last sample, whose outputs are dropped.

    Args:
        session: a model; where its tensors have the batch, or that they have none, their axes tell.
        inputs: by name, shape [samples, ...], at least one sample; inputs that the graph does not take are left out.
        cut_padding: whether padding is left out where the model can do without (see `lengths`).
    """
    names = {spec.name for signature in session.graphs.values() for spec in signature.inputs}
    taken = {name: value for name, value in inputs.items() if name in names}
    parts: dict[int, Tensors] = {}
    for fit, rows in _fitting_rows(session, taken, cut_padding=cut_padding):
        own = {name: value[rows] for name, value in taken.items()}
        if fit.tokens:
            own = cut(own, session.graphs[fit.graph], fit.tokens)
        size, is_fixed = batch_size(session.graphs[fit.graph])
        for start in range(0, len(rows), size):
            outputs = _run_batch(session, fit, own, slice(start, start + size), size if is_fixed else None)
            if fit.tokens:
                outputs = filled_up(outputs, session.graphs[fit.graph], fit.tokens, taken[MASK].shape[1])
            for place, row in enumerate(rows[start : start + size]):
                parts[row] = {name: value[place : place + 1] for name, value in outputs.items()}
    return {name: np.concatenate([parts[row][name] for row in sorted(parts)]) for name in parts[0]}


def _fitting_rows(session: Session, inputs: Tensors, *, cut_padding: bool) -> Iterator[tuple[Fit, list[int]]]:
    """Give the graph and number of tokens (0: as they come), with the samples that run so."""
    count = len(next(iter(inputs.values())))
    if not takes_tokens(session.graphs):
        yield Fit(next(iter(session.graphs)), 0), list(range(count))
        return
    width = inputs[MASK].shape[1]
    tokens = own_tokens(inputs) if cut_padding else np.full(count, width)
    rows: dict[Fit, list[int]] = {}
    for row, own in enumerate(tokens):
        # What no graph takes is given to the longest, whose session tells what it takes.
        fit = graph_for(session.graphs, int(own)) or Fit(full_graph(session.graphs), 0)
        rows.setdefault(fit if fit.tokens <= width else Fit(fit.graph, 0), []).append(row)
    yield from rows.items()


def _run_batch(session: Session, fit: Fit, inputs: Tensors, part: slice, exact: int | None) -> dict[str, Tensor]:
    rows = {name: value[part] for name, value in inputs.items()}
    present = len(next(iter(rows.values())))
    if exact is not None and present < exact:
        rows = {n: np.concatenate([v, np.repeat(v[-1:], exact - present, axis=0)]) for n, v in rows.items()}
    signature = session.graphs[fit.graph]
    outputs = as_samples(session.run(as_call(rows, signature), graph=fit.graph), signature)
    return {name: value[:present] for name, value in outputs.items()}


def batch_size(signature: Signature) -> tuple[int, bool]:
    """Return how many samples a graph takes at a time, and whether it takes exactly so many."""
    if not is_batched(signature):
        return 1, True
    sizes = [spec.dims[place] for spec in signature.inputs if (place := batch_place(spec)) is not None]
    fixed = [size for size in sizes if isinstance(size, int)]
    if fixed:
        return max(fixed[0], 1), True
    return max(1, min(LARGEST_BATCH, *(size.max for size in sizes if not isinstance(size, int)))), False
