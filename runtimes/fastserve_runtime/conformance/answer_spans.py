"""From start and end logits to answers: the algorithm of Transformers' question answering.

Its pipeline was last published with version 4 (`pipelines/question_answering.py`; `select_starts_ends` and
`decode_spans` live on in 5's `document_question_answering.py`), and goes back to DrQA (Chen et al. 2017). Of each
window, the softmax of starts and that of ends goes over the context's tokens and the first token, [CLS]; a span's score
is the product of its two probabilities, and that of [CLS] is the score of having no answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastserve_runtime.conformance.answers import END, START

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Span:
    """A stretch of a context.

    Attributes:
        text: what stands there.
        start: its first character in the context.
        end: the character behind its last.
        score: the probability of its start, times that of its end.
    """

    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class WindowScores:
    """The probabilities of a window's tokens.

    Attributes:
        starts: that an answer starts there; zeros for what is not the context's, shape [tokens].
        ends: that it ends there; likewise.
        null: the score of having no answer.
    """

    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    null: float


def window_scores(
    starts: NDArray[np.generic], ends: NDArray[np.generic], is_context: NDArray[np.bool_]
) -> WindowScores:
    """Return the probabilities of one window.

    Args:
        starts: logits, shape [tokens].
        ends: likewise.
        is_context: which tokens are the context's; the first token of a window is none.
    """
    counted = is_context.copy()
    counted[0] = True
    left, right = (_softmax(np.asarray(logits, np.float64), counted) for logits in (starts, ends))
    null = float(left[0] * right[0])
    return WindowScores(np.where(is_context, left, 0.0), np.where(is_context, right, 0.0), null)


def best_spans(
    scores: WindowScores, spans: NDArray[np.generic], context: str, *, maximum: int, longest: int
) -> list[Span]:
    """Return the likeliest spans of a window, best first; of equal ones the earlier.

    Args:
        scores: the window's.
        spans: first character of each token, and the one behind its last, shape [tokens, 2].
        context: what they count the characters of.
        maximum: so many at most.
        longest: tokens of an answer at most.
    """
    likely = np.flatnonzero(scores.starts), np.flatnonzero(scores.ends)
    if not (likely[0].size and likely[1].size and likely[0][0] <= likely[1][-1]):
        return []
    first, last = int(likely[0][0]), int(likely[1][-1])
    count = last - first + 1
    # Row s, column k: the span from token s to token s + k.
    longest = min(longest, count)
    ends = np.concatenate([scores.ends[first : last + 1], np.zeros(longest - 1)])
    products = scores.starts[first : last + 1, None] * np.lib.stride_tricks.sliding_window_view(ends, longest)
    flat = products.ravel()
    chosen = np.arange(flat.size) if flat.size <= maximum else np.sort(np.argpartition(-flat, maximum - 1)[:maximum])
    order = chosen[np.argsort(-flat[chosen], kind="stable")]
    found = []
    for index in order[flat[order] > 0].tolist():
        start, more = divmod(index, longest)
        token = first + start
        begin, end = int(spans[token, 0]), int(spans[token + more, 1])
        found.append(Span(context[begin:end], begin, end, float(flat[index])))
    return found


def merged(spans: Iterable[Span]) -> list[Span]:
    """Return spans with those of equal text joined, whose scores add up, best first; the first found gives the place.

    Small and large letters are not told apart, as in Transformers. Windows overlap, so the scores of a text that is in
    several can add up to more than 1.
    """
    by_text: dict[str, Span] = {}
    for span in spans:
        known = by_text.get(span.text.lower())
        by_text[span.text.lower()] = span if known is None else replace(known, score=known.score + span.score)
    return sorted(by_text.values(), key=lambda span: -span.score)


def _softmax(logits: NDArray[np.float64], counted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return probabilities over the counted ones, all zero where one of them is not finite."""
    own = logits[counted]
    found = np.zeros_like(logits)
    if np.isfinite(own).all():
        powers = np.exp(own - own.max())
        found[counted] = powers / powers.sum()
    return found


def answered(
    outputs: Mapping[str, Any],
    is_context: NDArray[np.bool_],
    spans: NDArray[np.generic],
    texts: Sequence[str],
    rows: Sequence[int],
    *,
    maximum: int,
    longest: int,
) -> tuple[list[Span], float]:
    """Return the answers to a question that its windows give, best first, and the score of there being none."""
    found, null = [], 1.0
    for row in rows:
        scores = window_scores(outputs[START][row], outputs[END][row], is_context[row])
        null = min(null, scores.null)
        found += best_spans(scores, spans[row], texts[row], maximum=maximum, longest=longest)
    return merged(found), null


def candidates(top_k: int, *, align_to_words: bool = True) -> int:
    """Return how many spans of each window are looked at, as in Transformers: several can be of the same words."""
    return 2 * top_k + 10 if align_to_words else top_k
