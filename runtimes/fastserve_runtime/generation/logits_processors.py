"""What changes the scores of the next token before one is chosen: Transformers' logits processors, in numpy.

A processor is anything that can be called with scores and tokens; those here are the ones that a checkpoint's
`generation_config.json` can ask for. Masks of another kind, such as those of a grammar, are processors too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Scores = NDArray[np.float32]

_MAX = float(np.finfo(np.float32).max)


class LogitsProcessor(Protocol):
    """Changes scores. One is made for each text, and may keep what it has seen of it: tokens are only ever added."""

    def __call__(self, scores: Scores, tokens: Sequence[int]) -> Scores:
        """Return the scores of the next token.

        Args:
            scores: shape [vocabulary]; they may be changed in place.
            tokens: the prompt's, and those generated so far.
        """


class SequenceBias:
    """Adds a bias to the token that would complete a sequence."""

    def __init__(self, biases: Mapping[tuple[int, ...], float]) -> None:
        self._single = {sequence[0]: bias for sequence, bias in biases.items() if len(sequence) == 1}
        self._longer = {sequence: bias for sequence, bias in biases.items() if len(sequence) > 1}

    def __call__(self, scores: Scores, tokens: Sequence[int]) -> Scores:
        """See `LogitsProcessor`."""
        total: dict[int, float] = dict(self._single)
        for sequence, bias in self._longer.items():
            before = len(sequence) - 1
            if before <= len(tokens) and tuple(tokens[len(tokens) - before :]) == sequence[:-1]:
                total[sequence[-1]] = total.get(sequence[-1], 0.0) + bias
        for token, bias in total.items():
            if token < scores.size:
                scores[token] += np.float32(bias)
        return scores


def no_bad_words(words: Sequence[Sequence[int]], ends: Collection[int]) -> SequenceBias:
    """Return what keeps sequences from being completed; a single token that ends the text stays allowed."""
    allowed = {(end,) for end in ends}
    return SequenceBias({tuple(word): -np.inf for word in words if tuple(word) not in allowed})


class RepetitionPenalty:
    """Divides the scores of tokens that occurred, or multiplies them where negative (arXiv 1909.05858).

    With a penalty below 1 they become likelier: such a one for the prompt's own tokens is Transformers'
    `encoder_repetition_penalty`, inverted.
    """

    def __init__(self, penalty: float, occurred: Sequence[int] | None = None) -> None:
        """Set up.

        Args:
            penalty: above 0.
            occurred: of which tokens; of all before if left out.
        """
        self._penalty, self._occurred = np.float32(penalty), occurred

    def __call__(self, scores: Scores, tokens: Sequence[int]) -> Scores:
        """See `LogitsProcessor`."""
        ids = np.asarray(tokens if self._occurred is None else self._occurred, np.int64)
        ids = ids[ids < scores.size]
        given = scores[ids]
        scores[ids] = np.where(given < 0, given * self._penalty, given / self._penalty)
        return scores


class NoRepeatNgram:
    """Forbids a token that would repeat a run of so many tokens."""

    def __init__(self, size: int, source: Sequence[int] | None = None) -> None:
        """Set up.

        Args:
            size: of the runs, at least 1.
            source: whose runs are not to be repeated; those of all tokens before if left out.
        """
        self._size, self._is_fixed, self._read = size, source is not None, 0
        self._following: dict[tuple[int, ...], set[int]] = {}
        if source is not None:
            self._take(source)

    def __call__(self, scores: Scores, tokens: Sequence[int]) -> Scores:
        """See `LogitsProcessor`."""
        if not self._is_fixed:
            self._take(tokens)
        start = len(tokens) + 1 - self._size
        if start >= 0:
            banned = self._following.get(tuple(tokens[start:]), set())
            scores[[token for token in banned if token < scores.size]] = -np.inf
        return scores

    def _take(self, tokens: Sequence[int]) -> None:
        """Note the runs that end in tokens that are new."""
        for end in range(max(self._read, self._size - 1), len(tokens)):
            before = tuple(tokens[end - self._size + 1 : end])
            self._following.setdefault(before, set()).add(tokens[end])
        self._read = len(tokens)


class MinLength:
    """Forbids tokens that end the text as long as it has fewer tokens, those of the prompt among them."""

    def __init__(self, length: int, ends: Collection[int]) -> None:
        self._length, self._ends = length, list(ends)

    def __call__(self, scores: Scores, tokens: Sequence[int]) -> Scores:
        """See `LogitsProcessor`."""
        return _suppressed(scores, self._ends) if len(tokens) < self._length else scores


class SuppressTokens:
    """Forbids tokens."""

    def __init__(self, suppressed: Collection[int], at: int | None = None) -> None:
        """Set up.

        Args:
            suppressed: their ids; those beyond the scores are ignored.
            at: only behind so many tokens; anywhere if left out.
        """
        self._suppressed, self._at = list(suppressed), at

    def __call__(self, scores: Scores, tokens: Sequence[int]) -> Scores:
        """See `LogitsProcessor`."""
        return _suppressed(scores, self._suppressed) if self._at in (None, len(tokens)) else scores


class ForcedTokens:
    """Allows only some tokens behind so many."""

    def __init__(self, allowed: Collection[int], at: int) -> None:
        self._allowed, self._at = list(allowed), at

    def __call__(self, scores: Scores, tokens: Sequence[int]) -> Scores:
        """See `LogitsProcessor`."""
        if len(tokens) == self._at:
            scores[:] = -np.inf
            scores[[token for token in self._allowed if token < scores.size]] = 0
        return scores


class RemoveInvalidValues:
    """Puts numbers in the place of what is none, or infinite."""

    def __call__(self, scores: Scores, tokens: Sequence[int]) -> Scores:  # noqa: ARG002
        """See `LogitsProcessor`."""
        return np.nan_to_num(scores, copy=False, nan=0.0, posinf=_MAX, neginf=-_MAX)


class ExponentialDecayLengthPenalty:
    """Makes tokens that end the text likelier, ever more behind so many tokens."""

    def __init__(self, start: int, factor: float, ends: Collection[int]) -> None:
        self._start, self._factor, self._ends = start, factor, list(ends)

    def __call__(self, scores: Scores, tokens: Sequence[int]) -> Scores:
        """See `LogitsProcessor`."""
        beyond = len(tokens) - self._start
        if beyond > 0:
            ends = [end for end in self._ends if end < scores.size and np.isfinite(scores[end])]
            scores[ends] += np.abs(scores[ends]) * np.float32(self._factor**beyond - 1)
        return scores


def _suppressed(scores: Scores, ids: Sequence[int]) -> Scores:
    scores[[i for i in ids if 0 <= i < scores.size]] = -np.inf
    return scores
