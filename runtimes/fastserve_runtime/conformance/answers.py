"""Exact match and F1 of answers, as SQuAD's official script counts them (Rajpurkar et al. 2016 and 2018).

Texts are compared in small letters, without punctuation and the articles of English. An answer has the best figure that
it reaches with any of those that people gave. A question without an answer is answered right by saying nothing, and by
nothing else. The script is that of version 2.0, which gives 1.1's figures where every question has an answer.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_PUNCTUATION = frozenset(string.punctuation)

START, END = "start_logits", "end_logits"
"""The outputs of a model: each token's score as the first of an answer, and as its last."""
LONGEST_ANSWER = 15
"""Tokens, as in Transformers."""

Figure = Callable[[str, str], float]


def normalized(text: str) -> str:
    """Return a text as answers are compared: small letters, no punctuation, no articles, single blanks."""
    letters = "".join(sign for sign in text.lower() if sign not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", letters).split())


def exact_match(truth: str, found: str) -> float:
    """Return 1 where two answers are the same, else 0."""
    return float(normalized(truth) == normalized(found))


def token_f1(truth: str, found: str) -> float:
    """Return the F1 score of the words that two answers share, 0 to 1; without words on a side, whether both lack them.

    Words that occur several times count as often as both have them.
    """
    left, right = normalized(truth).split(), normalized(found).split()
    if not left or not right:
        return float(left == right)
    shared = sum((Counter(left) & Counter(right)).values())
    return 2 * shared / (len(left) + len(right))


def best_figure(figure: Figure, truths: Sequence[str], found: str) -> float:
    """Return the best figure of an answer with any of the right ones.

    Args:
        figure: `exact_match` or `token_f1`.
        truths: the right answers; none of them: the question has no answer.
        found: the answer; empty: none was found.
    """
    # The official script leaves out right answers of which nothing is left, such as "the".
    counted = [truth for truth in truths if normalized(truth)] or [""]
    return max(figure(truth, found) for truth in counted)
