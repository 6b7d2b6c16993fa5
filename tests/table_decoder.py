"""A decoder without a model: what comes next is looked up by the last two tokens and their place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class TableDecoder:
    """Scores tokens by a table of random numbers, and notes what it is asked for."""

    def __init__(self, vocabulary: int, context: int) -> None:
        self.context = context
        self.vocabulary = vocabulary
        self.position = 0
        self.calls: list[str | list[int]] = []
        self.held: list[int] = []
        self._table = np.random.default_rng(7).normal(size=(vocabulary, vocabulary, vocabulary)).astype(np.float32)
        self._scores = np.zeros(vocabulary, np.float32)

    @property
    def feeds(self) -> list[list[int]]:
        """The tokens of each call of `feed`."""
        return [call for call in self.calls if isinstance(call, list)]

    def scores_behind(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        before = tokens[-2] if len(tokens) > 1 else 0
        scores: NDArray[np.float32] = np.roll(self._table[before, tokens[-1]], len(tokens))
        return scores

    def feed(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        assert tokens
        assert self.position + len(tokens) <= self.context
        self.calls.append(list(tokens))
        self.held = [*self.held[: self.position], *tokens]
        self.position = len(self.held)
        self._scores[:] = self.scores_behind(self.held)  # as real ones do, it overwrites what it gave before
        return self._scores

    def rewind(self, position: int) -> None:
        assert 0 <= position <= self.position
        self.calls.append(f"rewind {position}")
        self.position = position
