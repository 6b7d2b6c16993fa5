"""Decoders whose graph takes the keys and values of earlier tokens and gives those of the new ones.

So are our TFLite graphs. How many tokens are new, and how many slots there are for earlier ones, is open: a prompt goes
in by chunks, and the slots grow with the text, so that nothing is computed for an empty part of the cache. The new rows
are written into the engine's own input buffers; the cache is copied only where their sizes change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastserve_runtime.bundle.tensor_specs import Signature, TensorSpec
from fastserve_runtime.errors import BundleError, UsageError
from fastserve_runtime.generation.decoder_checks import check_cached, check_fed, check_rewind, vocabulary_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastserve_runtime.sessions.session import Binding, Session, Tensor

INPUT_IDS, POSITIONS, CACHED_POSITIONS, LOGITS = "input_ids", "positions", "cached_positions", "logits"
PAST, NEW = "past_key_values.", "new_key_values."
_ROWS = 1
"""The axis of a cache that counts tokens: [heads, tokens, head_dim]."""
_CHUNK = 128
"""So many tokens of a prompt at once: more need memory for their activations and are no quicker."""
_SLOTS = 64
"""By so many slots the cache grows: a token costs what all slots cost, and growing costs a copy of the cache."""
_EMPTY = 2**24
"""The position of a slot that holds nothing: behind all tokens, so that none sees it; float32 still counts that far."""


def past_name(layer: int, kind: str) -> str:
    """Return the name of the input with a layer's earlier keys or values (`key`, `value`)."""
    return f"{PAST}{layer}.{kind}"


def new_name(layer: int, kind: str) -> str:
    """Return the name of the output with the keys or values of a layer's new tokens."""
    return f"{NEW}{layer}.{kind}"


def has_sliced_cache(signature: Signature) -> bool:
    """Whether a graph is of this kind, by the names of its inputs and outputs."""
    inputs, outputs = ({t.name for t in tensors} for tensors in (signature.inputs, signature.outputs))
    pasts = _pasts(signature)
    is_complete = bool(pasts) and {NEW + t.name.removeprefix(PAST) for t in pasts} <= outputs
    return {INPUT_IDS, POSITIONS, CACHED_POSITIONS} <= inputs and LOGITS in outputs and is_complete


class SlicedCacheDecoder:
    """A `TokenDecoder` over such a graph."""

    def __init__(self, session: Session, *, graph: str | None = None, context: int | None = None) -> None:
        """Take a graph.

        Args:
            session: an opened model; it stays the caller's to close.
            graph: which graph; may be left out where there is only one.
            context: how many tokens to take at most, where the graph does not say.

        Raises:
            BundleError: the graph is of another kind.
            UsageError: the context is not known, or below 2.
        """
        self._graph = graph or next(iter(session.graphs))
        signature = session.graphs[self._graph]
        if not has_sliced_cache(signature):
            raise BundleError(f"The graph '{self._graph}' does not give the keys and values of new tokens.")
        self.context = _context(signature, context)
        self.position = 0
        self.vocabulary = vocabulary_of(session, self._graph)
        self._session = session
        self._pasts = {t.name: t for t in _pasts(signature)}
        self._news = {name: NEW + name.removeprefix(PAST) for name in self._pasts}
        self._binding: Binding | None = None
        self._sizes = (0, 0)
        # What is not in the engine's buffers: rows from `_written` to `position`.
        self._written = 0
        self._kept: dict[str, Tensor] = {}

    def feed(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Take tokens; see `TokenDecoder.feed`."""
        check_fed(tokens, self.position, self.context, self.vocabulary)
        # The odd chunk comes first, while there is least to copy for a change of size.
        first = len(tokens) % _CHUNK or _CHUNK
        starts = [0, *range(first, len(tokens), _CHUNK)]
        for start, end in zip(starts, [*starts[1:], len(tokens)], strict=True):
            scores = self._run(tokens[start:end])
        return scores

    def rewind(self, position: int) -> None:
        """Forget the tokens from a position on."""
        check_rewind(position, self.position)
        self._kept = {name: rows[:, : max(position - self._written, 0)] for name, rows in self._kept.items()}
        self.position = position
        self._written = min(self._written, position)
        if self._binding is not None:
            self._binding.inputs[CACHED_POSITIONS][self._written :] = _EMPTY

    def cached(self) -> dict[str, Tensor]:
        """Return copies of the keys and values of the tokens it holds."""
        whole: dict[str, Tensor] = {}
        for name, spec in self._pasts.items():
            whole[name] = rows = np.empty(_shape(spec, self.position), spec.dtype)
            if self._written and self._binding is not None:
                rows[:, : self._written] = self._binding.inputs[name][:, : self._written]
            if self._kept:
                rows[:, self._written :] = self._kept[name]
        return whole

    def restore(self, cached: Mapping[str, Tensor], position: int) -> None:
        """Take what `cached` returned."""
        wanted = {name: (_shape(spec, position), np.dtype(spec.dtype)) for name, spec in self._pasts.items()}
        check_cached(cached, wanted, position, self.context)
        self.rewind(0)
        self._kept = {name: cached[name].copy() for name in self._pasts}
        self.position = position

    def _run(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Take tokens, no more than a chunk."""
        start, end = self.position, self.position + len(tokens)
        binding = self._buffers(len(tokens))
        binding.inputs[INPUT_IDS][:] = tokens
        binding.inputs[POSITIONS][:] = np.arange(start, end)
        outputs = binding.run()
        if end <= self._sizes[1]:
            self._write({past: outputs[new] for past, new in self._news.items()}, start, end)
        else:
            # They stay where they are until buffers of other sizes are borrowed, before which they are copied.
            self._kept = {past: outputs[new] for past, new in self._news.items()}
        self.position = end
        scores: NDArray[np.float32] = outputs[LOGITS][0]
        return scores

    def _buffers(self, count: int) -> Binding:
        """Return buffers for so many tokens, with all rows written that are held."""
        # A prompt looks back only; a single token's rows are written behind what it sees.
        room = self.position + (count == 1)
        slots = min(max(-(-room // _SLOTS) * _SLOTS, 1), self.context)
        if self._binding is None or self._sizes != (count, slots):
            self._borrow(count, slots)
        elif self._kept:
            self._write(self._kept, self._written, self.position)
            self._kept = {}
        assert self._binding is not None
        return self._binding

    def _borrow(self, count: int, slots: int) -> None:
        self._give_back()
        if self._sizes == (0, 0):
            # The engine reserves its memory for the largest sizes at once, rather than to move it with each growth.
            largest = self._shapes(min(_CHUNK, self.context), self.context)
            self._session.borrow(largest, self._give_back, graph=self._graph)
        binding = self._session.borrow(self._shapes(count, slots), self._give_back, graph=self._graph)
        for name in self._pasts:
            # What lies there may be no number, and would spoil the sum even with a weight of zero.
            binding.inputs[name][:, self.position :] = 0
        binding.inputs[CACHED_POSITIONS][:] = _EMPTY
        self._binding, self._sizes = binding, (count, slots)
        self._write(self._kept, 0, self.position)
        self._kept = {}

    def _shapes(self, count: int, slots: int) -> dict[str, tuple[int, ...]]:
        shapes = {name: _shape(spec, slots) for name, spec in self._pasts.items()}
        return {**shapes, INPUT_IDS: (count,), POSITIONS: (count,), CACHED_POSITIONS: (slots,)}

    def _write(self, rows: Mapping[str, Tensor], start: int, end: int) -> None:
        assert self._binding is not None
        inputs = self._binding.inputs
        for name, new in rows.items():
            inputs[name][:, start:end] = new
        inputs[CACHED_POSITIONS][start:end] = np.arange(start, end)
        self._written = end

    def _give_back(self) -> None:
        """Keep what lies in the engine's buffers, which something else needs."""
        if self._binding is not None:
            self._kept = self.cached()
            self._binding = None
        self._written = 0


def _pasts(signature: Signature) -> list[TensorSpec]:
    return [t for t in signature.inputs if t.name.startswith(PAST)]


def _shape(past: TensorSpec, rows: int) -> tuple[int, ...]:
    return tuple(rows if axis == _ROWS else dim if isinstance(dim, int) else 1 for axis, dim in enumerate(past.dims))


def _context(signature: Signature, wanted: int | None) -> int:
    (slots,) = next(t for t in signature.inputs if t.name == CACHED_POSITIONS).dims
    maximum = slots if isinstance(slots, int) else slots.max
    if wanted is None and maximum >= _EMPTY:
        raise UsageError("The model leaves open how many tokens its context has.", "Say how many.")
    context = maximum if wanted is None else min(wanted, maximum)
    if context < 2:
        raise UsageError(f"A context of {context} tokens is too small.", "Take at least 2.")
    return context
