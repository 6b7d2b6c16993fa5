"""Decoders that keep their cache inside the model, out of an application's sight.

So are ExecuTorch programs: they take tokens with the position of the first, and overwrite what they kept from there on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastserve_runtime.bundle.axes import TOKENS, dim_of
from fastserve_runtime.bundle.tensor_specs import Signature, SymbolicDim, TensorSpec
from fastserve_runtime.errors import BundleError, InputError, UsageError
from fastserve_runtime.generation.decoder_checks import check_fed, check_rewind, vocabulary_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastserve_runtime.sessions.session import Session, Tensor

INPUT_IDS, POSITION, LOGITS = "input_ids", "position", "logits"
MAX_CONTEXT = "max_context"
"""The graph, without inputs, and its output that tell how many tokens the cache has room for."""


def keeps_cache_inside(signature: Signature) -> bool:
    """Whether a graph is of this kind, by the names of its inputs and outputs."""
    names = [{t.name for t in tensors} for tensors in (signature.inputs, signature.outputs)]
    return names == [{INPUT_IDS, POSITION}, {LOGITS}]


class StatefulDecoder:
    """A `TokenDecoder` over such a graph. A session has one cache: give it to one decoder only."""

    def __init__(self, session: Session, *, graph: str | None = None, context: int | None = None) -> None:
        """Set up.

        Args:
            session: an opened model; it stays the caller's to close.
            graph: which graph; may be left out where one is of this kind.
            context: use no more than so many tokens of the cache; None for all.

        Raises:
            BundleError: no graph is of this kind, or none tells the size of its cache.
            UsageError: the context is below 2, or larger than the cache.
        """
        of_kind = [name for name, signature in session.graphs.items() if keeps_cache_inside(signature)]
        name = graph or next(iter(of_kind), "")
        if name not in of_kind or MAX_CONTEXT not in session.graphs:
            raise BundleError("The model has no graph that keeps a cache of keys and values.")
        tokens, position, logits = _tensors(session.graphs[name])
        self.context = _context(int(session.run({}, graph=MAX_CONTEXT)[MAX_CONTEXT]), context)
        self.position = 0
        self.vocabulary = vocabulary_of(session, name)
        dim = dim_of(tokens, TOKENS) or 1
        self._chunk = dim.max if isinstance(dim, SymbolicDim) else dim
        self._token = np.zeros((1, 1), tokens.dtype)
        self._start = np.zeros(1, position.dtype)
        shape = tuple(d if isinstance(d, int) else d.max for d in logits.dims)
        self._binding = session.bind(
            {INPUT_IDS: self._token, POSITION: self._start}, {LOGITS: np.zeros(shape, logits.dtype)}, graph=name
        )

    def feed(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Take tokens; see `TokenDecoder.feed`."""
        check_fed(tokens, self.position, self.context, self.vocabulary)
        for start in range(0, len(tokens), self._chunk):
            self._run(tokens[start : start + self._chunk])
        scores: Any = self._binding.outputs[LOGITS]
        return scores.reshape(-1)  # type: ignore[no-any-return]

    def rewind(self, position: int) -> None:
        """Forget the tokens from a position on: the next ones are written over them."""
        check_rewind(position, self.position)
        self.position = position

    def cached(self) -> dict[str, Tensor]:
        """Return nothing: the model does not give its cache away."""
        return {}

    def restore(self, cached: Mapping[str, Tensor], position: int) -> None:
        """Refuse any cache; that of no tokens is empty."""
        if cached or position:
            raise InputError("This model's cache cannot be restored from outside.", "Feed the tokens again.")
        self.position = 0

    def _run(self, tokens: Sequence[int]) -> None:
        if len(tokens) == 1:
            self._token[0, 0] = tokens[0]
            ids = self._token
        else:
            ids = np.array([tokens], self._token.dtype)
        if self._binding.inputs[INPUT_IDS] is not ids:
            self._binding.replace({INPUT_IDS: ids})
        self._start[0] = self.position
        self._binding.run()
        self.position += len(tokens)


def _tensors(signature: Signature) -> tuple[TensorSpec, TensorSpec, TensorSpec]:
    named = {t.name: t for t in (*signature.inputs, *signature.outputs)}
    return named[INPUT_IDS], named[POSITION], named[LOGITS]


def _context(room: int, wanted: int | None) -> int:
    context = room if wanted is None else wanted
    if not 2 <= context <= room:
        raise UsageError(
            f"A context of {context} tokens does not fit this model.",
            f"Take from 2 to {room}, which is what its cache holds.",
        )
    return context
