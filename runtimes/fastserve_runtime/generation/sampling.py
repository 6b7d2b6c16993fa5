"""The next token from a decoder's logits.

What is computed is what Transformers' logits processors compute, in their order: processors of the caller's (see
`logits_processors`), repetition penalty (CTRL, Keskar et al. 2019, arXiv 1909.05858), temperature, top-k, top-p, also
called nucleus sampling (Holtzman et al. 2019, arXiv 1904.09751), and the truncations of `truncation`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastserve_runtime.errors import EnvironmentFailure, InputError, UsageError
from fastserve_runtime.generation import truncation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastserve_runtime.generation.grammar import GrammarConstraint
    from fastserve_runtime.generation.logits_processors import LogitsProcessor

    Tokens = Sequence[int] | NDArray[np.integer[Any]]

_FIRST_NUCLEUS = 256
"""How many of the best tokens are looked at first for a nucleus; most are smaller."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        temperature: what logits are divided by; 0 always takes the best token, and then only `repetition_penalty` of
            the rest matters.
        top_k: only so many of the best tokens are drawn from, and those as good as the last of them; 0 for all.
        top_p: only the best tokens that together have this probability are drawn from; 1 for all, 0 for the best one.
        repetition_penalty: what logits of tokens that occurred are divided by, or multiplied with where negative; 1
            for no penalty.
        min_p: only tokens that have at least this share of the best one's probability are drawn from; 0 for all, 1 for
            those as good as the best one.
        typical_p: only tokens whose probability is nearest the expected one, and which together have this much, are
            drawn from; 1 for all.
        epsilon_cutoff: only tokens of at least this probability are drawn from; 0 for all.
        eta_cutoff: the same, and of less where the distribution is flat; 0 for all.
        seed: what the draws start from: the same seed and logits give the same tokens; None starts anywhere.

    Raises:
        UsageError: a value is out of its range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    min_p: float = 0.0
    typical_p: float = 1.0
    epsilon_cutoff: float = 0.0
    eta_cutoff: float = 0.0

    def __post_init__(self) -> None:
        if not _is_number(self.temperature) or self.temperature < 0:
            raise _wrong("temperature", self.temperature, "Give 0 to always take the best token, or a number above 0")
        if not _is_integer(self.top_k) or self.top_k < 0:
            raise _wrong("top_k", self.top_k, "Give a count of tokens, such as 50, or 0 for all")
        for name, usual in (("top_p", 0.9), ("min_p", 0.05)):
            value = getattr(self, name)
            if not _is_number(value) or not 0 <= value <= 1:
                raise _wrong(name, value, f"Give a number from 0 to 1, such as {usual}")
        if not _is_number(self.repetition_penalty) or self.repetition_penalty <= 0:
            raise _wrong("repetition_penalty", self.repetition_penalty, "Give a number above 0; 1 is no penalty")
        for name in ("epsilon_cutoff", "eta_cutoff"):
            value = getattr(self, name)
            if not _is_number(value) or not 0 <= value < 1:
                raise _wrong(name, value, "Give a number of at least 0 and below 1, such as 0.0003")
        if not _is_number(self.typical_p) or not 0 < self.typical_p <= 1:
            raise _wrong("typical_p", self.typical_p, "Give a number above 0 and at most 1, such as 0.9")
        if self.seed is not None and (not _is_integer(self.seed) or self.seed < 0):
            raise _wrong("seed", self.seed, "Give an integer of at least 0, or None")


@dataclass(frozen=True)
class Candidates:
    """The tokens that may come next.

    Attributes:
        tokens: their ids, ascending.
        probabilities: of each, float64; they add up to 1.
    """

    tokens: NDArray[np.intp]
    probabilities: NDArray[np.float64]


class Sampler:
    """Chooses tokens one after another.

    Draws come from numpy's PCG64, which gives the same numbers on every platform. So the same seed gives the same
    tokens wherever the engine gives the same logits.
    """

    def __init__(
        self,
        sampling: Sampling,
        constraint: GrammarConstraint | None = None,
        *,
        processors: Sequence[LogitsProcessor] = (),
    ) -> None:
        """Begin a text.

        Args:
            sampling: how tokens are chosen.
            constraint: the grammar that the text follows; None for any text.
            processors: what changes scores before, in this order. Where they leave nothing that the grammar allows,
                the grammar counts.
        """
        self.sampling = sampling
        self._constraint = constraint
        self._processors = tuple(processors)
        self._generator = np.random.Generator(np.random.PCG64(sampling.seed))

    @property
    def is_complete(self) -> bool:
        """Whether nothing can follow the tokens chosen so far, since a grammar has ended."""
        return self._constraint is not None and self._constraint.is_complete

    def next_token(self, logits: NDArray[np.floating[Any]], previous: Tokens = ()) -> int:
        """Return the id of the next token.

        Args:
            logits: one for each token of the vocabulary, shape [vocabulary]; left as they are.
            previous: the tokens of the prompt and those generated so far, which are penalized. Ids beyond the logits
                are ignored.

        Raises:
            InputError: `logits` is no vector of floats, or `previous` has a negative id.
            EnvironmentFailure: a logit is not a number, or none is finite, at a temperature above 0.
        """
        given = _checked(logits)
        scores = _penalized(self._processed(given, previous), previous, self.sampling.repetition_penalty)
        if self._constraint is None:
            return self._chosen(scores)
        masked = self._constraint.masked(scores)
        if np.isneginf(masked).all():
            masked = self._constraint.masked(given)
        token = self._chosen(masked)
        self._constraint.accept(token)
        return token

    def _processed(self, given: NDArray[np.float32], previous: Tokens) -> NDArray[np.float32]:
        if not self._processors:
            return given
        scores = given.copy()
        tokens: Sequence[int] = previous.tolist() if isinstance(previous, np.ndarray) else previous
        for processor in self._processors:
            scores = processor(scores, tokens)
        return scores

    def _chosen(self, scores: NDArray[np.float32]) -> int:
        if self.sampling.temperature == 0:
            return _best(scores)
        candidates = _candidates(scores, self.sampling)
        cumulative = np.cumsum(candidates.probabilities)
        drawn = np.searchsorted(cumulative, self._generator.random() * cumulative[-1], side="right")
        return int(candidates.tokens[min(int(drawn), candidates.tokens.size - 1)])


def candidates(logits: NDArray[np.floating[Any]], sampling: Sampling, previous: Tokens = ()) -> Candidates:
    """Return the tokens that may come next with their probabilities.

    Args:
        logits: one for each token of the vocabulary, shape [vocabulary].
        sampling: how they are chosen; its seed does not matter here.
        previous: the tokens that are penalized; see `Sampler.next_token`.

    Raises:
        InputError: `logits` is no vector of floats, or `previous` has a negative id.
        EnvironmentFailure: a logit is not a number, or none is finite, at a temperature above 0.
    """
    scores = _penalized(_checked(logits), previous, sampling.repetition_penalty)
    if sampling.temperature == 0:
        return Candidates(np.array([_best(scores)]), np.ones(1))
    return _candidates(scores, sampling)


def _candidates(scores: NDArray[np.float32], sampling: Sampling) -> Candidates:
    highest = scores[_best(scores)]
    if not np.isfinite(highest):
        raise EnvironmentFailure(
            f"The model's best logit is {highest}; nothing can be drawn from such logits.",
            "Verify the bundle, or try another variant or engine.",
        )
    if 0 < sampling.top_k < scores.size:
        last = np.partition(scores, scores.size - sampling.top_k)[scores.size - sampling.top_k]
        tokens = np.flatnonzero(scores >= last)
        probabilities = scores[tokens].astype(np.float64)
    else:
        tokens = np.arange(scores.size)
        probabilities = scores.astype(np.float64)
    # Less the best logit, what is divided is at most 0, and exp of it cannot overflow, however low the temperature. In
    # place, since memory for a whole vocabulary takes longer to get than to compute in.
    probabilities -= float(highest)
    with np.errstate(over="ignore"):
        probabilities /= sampling.temperature
    np.exp(probabilities, out=probabilities)
    probabilities /= probabilities.sum()
    if sampling.top_p < 1:
        nucleus = _nucleus(probabilities, sampling.top_p)
        tokens, probabilities = tokens[nucleus], probabilities[nucleus]
        probabilities = probabilities / probabilities.sum()
    for kept in _truncations(sampling):
        stays = kept(probabilities)
        tokens, probabilities = tokens[stays], probabilities[stays]
        probabilities = probabilities / probabilities.sum()
    if not probabilities.all():
        drawable = np.flatnonzero(probabilities)
        tokens, probabilities = tokens[drawable], probabilities[drawable]
    return Candidates(tokens, probabilities)


def _truncations(sampling: Sampling) -> Iterator[Callable[[NDArray[np.float64]], NDArray[np.bool_]]]:
    if sampling.min_p > 0:
        yield lambda p: truncation.min_p(p, sampling.min_p)
    if sampling.typical_p < 1:
        yield lambda p: truncation.typical_p(p, sampling.typical_p)
    if sampling.epsilon_cutoff > 0:
        yield lambda p: truncation.epsilon_cutoff(p, sampling.epsilon_cutoff)
    if sampling.eta_cutoff > 0:
        yield lambda p: truncation.eta_cutoff(p, sampling.eta_cutoff)


def _nucleus(probabilities: NDArray[np.float64], top_p: float) -> NDArray[np.intp]:
    # A token stays if all better ones together have less than top_p. Sorting a whole vocabulary for the few that stay
    # would take longest of all. So tokens are left out that cannot stay, since even as many of them as there are tokens
    # have less than the rest (half of it, for rounding), and ever larger tops of the others are tried.
    likely = np.flatnonzero(probabilities >= 0.5 * (1 - top_p) / probabilities.size)
    chances = probabilities[likely]
    size = _FIRST_NUCLEUS
    while True:
        if size < chances.size:
            minimum = np.partition(chances, chances.size - size)[chances.size - size]
            top = np.flatnonzero(chances >= minimum)
        else:
            top = np.arange(chances.size)
        best_first = top[np.argsort(chances[top], kind="stable")[::-1]]
        reached = np.cumsum(chances[best_first])
        if reached[-1] >= top_p or top.size == chances.size:
            kept = 1 + int(np.searchsorted(reached[:-1], top_p, side="left"))
            return likely[np.sort(best_first[:kept])]
        size *= 8


def _penalized(scores: NDArray[np.float32], previous: Tokens, penalty: float) -> NDArray[np.float32]:
    if penalty == 1 or len(previous) == 0:
        return scores
    ids = np.asarray(previous, np.int64)
    if ids.min() < 0:
        raise InputError(f"A previous token has the id {ids.min()}.", "Give ids of at least 0.")
    ids = ids[ids < scores.size]
    occurred = scores[ids]
    changed = scores.copy()
    factor = np.float32(penalty)
    changed[ids] = np.where(occurred < 0, occurred * factor, occurred / factor)
    return changed


def _best(scores: NDArray[np.float32]) -> int:
    best = int(scores.argmax())  # numpy takes the first of equals, and a NaN before any number
    if np.isnan(scores[best]):
        raise EnvironmentFailure(
            f"The model's logit at position {best} is not a number.",
            "Verify the bundle, or try another variant or engine.",
        )
    return best


def _checked(logits: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    given = np.asarray(logits)
    if given.ndim != 1 or given.size == 0 or not np.issubdtype(given.dtype, np.floating):
        raise InputError(
            f"Logits of shape {list(given.shape)} and type {given.dtype} were given.",
            "Give one float for each token of the vocabulary, shape [vocabulary].",
        )
    return given.astype(np.float32, copy=False)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _wrong(name: str, value: object, remedy: str) -> UsageError:
    return UsageError(f"{name} cannot be {value!r:.60}.", f"{remedy}.")
