"""Decoders whose cache lies in buffers that the model reads as inputs and writes as outputs, in place.

So are ONNX graphs with GroupQueryAttention: each layer's `past_key_values.N.key` and `present.N.key` are one array of
the whole context's size, into which the operator writes the rows of the new tokens. Nothing is copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastserve_runtime.bundle.axes import TOKENS, VOCABULARY, dim_of
from fastserve_runtime.bundle.tensor_specs import UNBOUNDED, Signature, TensorSpec
from fastserve_runtime.errors import BundleError, UsageError
from fastserve_runtime.generation.decoder_checks import check_cached, check_fed, check_rewind, vocabulary_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastserve_runtime.sessions.session import Session, Tensor

INPUT_IDS, ATTENTION_MASK, LOGITS = "input_ids", "attention_mask", "logits"
PAST, PRESENT = "past_key_values.", "present."
_POSITIONS = 2
"""The axis of a cache that counts tokens: [1, heads, tokens, head_dim]."""
_CHUNK = 256
"""So many tokens of a prompt at once: more need memory for their activations and are no quicker."""


def has_shared_cache(signature: Signature) -> bool:
    """Whether a graph is of this kind, by the names of its inputs and outputs."""
    inputs, outputs = ({t.name for t in tensors} for tensors in (signature.inputs, signature.outputs))
    return {INPUT_IDS, ATTENTION_MASK} <= inputs and LOGITS in outputs and bool(_pairs(signature))


def whole_call(signature: Signature, tokens: Sequence[int]) -> dict[str, Tensor]:
    """Return the inputs of one call of such a graph that takes tokens with nothing before them.

    Args:
        signature: the graph's.
        tokens: ids, no more than its context takes.
    """
    ids, mask = (_named(signature, name) for name in (INPUT_IDS, ATTENTION_MASK))
    count = len(tokens)
    return {
        INPUT_IDS: np.array([tokens], ids.dtype),
        ATTENTION_MASK: np.ones((1, count), mask.dtype),
        **_empty_cache(_pairs(signature), count),
    }


class SharedCacheDecoder:
    """A `TokenDecoder` over such a graph."""

    def __init__(self, session: Session, *, graph: str | None = None, context: int | None = None) -> None:
        """Make the buffers.

        Args:
            session: an opened model; it stays the caller's to close.
            graph: which graph; may be left out where there is only one.
            context: how many tokens to make room for, where the graph leaves that open.

        Raises:
            BundleError: the graph is of another kind.
            UsageError: the context is not known, or below 2.
        """
        name = graph or next(iter(session.graphs))
        signature = session.graphs[name]
        if not has_shared_cache(signature):
            raise BundleError(f"The graph '{name}' has no inputs and outputs for a cache of keys and values.")
        pairs = _pairs(signature)
        self.context = _context(pairs, context)
        self.position = 0
        self.vocabulary = vocabulary_of(session, name)
        self._cache = _empty_cache(pairs, self.context)
        ids, logits = (_named(signature, n) for n in (INPUT_IDS, LOGITS))
        self._token = np.zeros((1, 1), ids.dtype)
        self._seen = np.ones((1, self.context), _named(signature, ATTENTION_MASK).dtype)
        vocabulary = dim_of(logits, VOCABULARY)
        if not isinstance(vocabulary, int) or dim_of(logits, TOKENS) != 1:
            raise BundleError(f"The graph '{name}' does not score the last token alone.", "Export the model again.")
        self._binding = session.bind(
            {INPUT_IDS: self._token, ATTENTION_MASK: self._seen[:, :1], **self._cache},
            {
                LOGITS: np.zeros((1, 1, vocabulary), logits.dtype),
                **{present.name: self._cache[past.name] for past, present in pairs},
            },
            graph=name,
        )

    def feed(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Take tokens; see `TokenDecoder.feed`."""
        check_fed(tokens, self.position, self.context, self.vocabulary)
        for start in range(0, len(tokens), _CHUNK):
            self._run(tokens[start : start + _CHUNK])
        scores: NDArray[np.float32] = self._binding.outputs[LOGITS][0, 0]
        return scores

    def rewind(self, position: int) -> None:
        """Forget the tokens from a position on; what lies behind it in the buffers is never looked at."""
        check_rewind(position, self.position)
        self.position = position

    def cached(self) -> dict[str, Tensor]:
        """Return copies of the keys and values of the tokens it holds."""
        return {name: value[:, :, : self.position].copy() for name, value in self._cache.items()}

    def restore(self, cached: Mapping[str, Tensor], position: int) -> None:
        """Take what `cached` returned."""
        wanted = {
            name: ((*own.shape[:_POSITIONS], position, *own.shape[_POSITIONS + 1 :]), own.dtype)
            for name, own in self._cache.items()
        }
        check_cached(cached, wanted, position, self.context)
        for name, own in self._cache.items():
            own[:, :, :position] = cached[name]
        self.position = position

    def _run(self, tokens: Sequence[int]) -> None:
        end = self.position + len(tokens)
        if len(tokens) == 1:
            self._token[0, 0] = tokens[0]
            ids = self._token
        else:
            ids = np.array([tokens], self._token.dtype)
        changed = {ATTENTION_MASK: self._seen[:, :end]}
        if self._binding.inputs[INPUT_IDS] is not ids:
            changed[INPUT_IDS] = ids
        self._binding.replace(changed)
        self._binding.run()
        self.position = end


def _pairs(signature: Signature) -> list[tuple[TensorSpec, TensorSpec]]:
    """Return each input of earlier keys or values with the output that takes its place."""
    outputs = {t.name: t for t in signature.outputs}
    pasts = [t for t in signature.inputs if t.name.startswith(PAST)]
    names = [PRESENT + t.name.removeprefix(PAST) for t in pasts]
    return [(past, outputs[name]) for past, name in zip(pasts, names, strict=True) if name in outputs]


def _empty_cache(pairs: Sequence[tuple[TensorSpec, TensorSpec]], positions: int) -> dict[str, Tensor]:
    """Return buffers of zeros for the earlier keys and values, by the names of their inputs."""
    return {past.name: np.zeros(_shape(past, positions), past.dtype) for past, _ in pairs}


def _named(signature: Signature, name: str) -> TensorSpec:
    return next(t for t in (*signature.inputs, *signature.outputs) if t.name == name)


def _context(pairs: Sequence[tuple[TensorSpec, TensorSpec]], wanted: int | None) -> int:
    dims = [past.dims[_POSITIONS] for past, _ in pairs]
    # A bare file leaves the size open without a bound that means anything.
    known = {dim if isinstance(dim, int) else dim.max for dim in dims} - {UNBOUNDED}
    if wanted is None and len(known) != 1:
        raise UsageError("The model leaves open how many tokens its context has.", "Say how many.")
    context = min(known) if wanted is None else wanted
    if context < 2:
        raise UsageError(f"A context of {context} tokens is too small.", "Take at least 2.")
    return context


def _shape(past: TensorSpec, context: int) -> tuple[int, ...]:
    sizes = [context if axis == _POSITIONS else dim for axis, dim in enumerate(past.dims)]
    return tuple(size if isinstance(size, int) else 1 for size in sizes)
