"""Pairs of the texts that ship with this package, and columns of second texts that nobody asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from fastserve_converters.data.table import Table, Value
from fastserve_runtime.bundle.raw_inputs import TextPair

DOCUMENTS = 10
"""So many documents share a query."""
_FIRST_AND_SECOND = (
    "sentence1 sentence2 sentence_a sentence_b text1 text2 text_a text_b text_pair pair premise hypothesis",
    "question question1 question2 answer query document passage context response",
)
_NAMES = frozenset(name for line in _FIRST_AND_SECOND for name in line.split())
"""What columns of first and second texts are called."""
_MIN_DIFFERENT = 4
"""Fewer different values of several words are rather the names of classes."""


def pairs_of(texts: Sequence[str]) -> list[TextPair]:
    """Return pairs of queries and documents: groups of texts with a query each, the first words of one of them.

    So one document of each group goes with its query and the others do not, in a place that changes.

    Args:
        texts: each becomes one document.
    """
    pairs: list[TextPair] = []
    for number, start in enumerate(range(0, len(texts), DOCUMENTS)):
        group = texts[start : start + DOCUMENTS]
        words = group[number % len(group)].split()
        query = " ".join(words[: max(1, len(words) // 2)])
        pairs += [(query, document) for document in group]
    return pairs


def unused_texts(table: Table, used: Collection[str]) -> Iterator[str]:
    """Give the columns of a table that hold texts too and are none of the used ones.

    Args:
        table: the data.
        used: columns that are read.
    """
    known = {name.strip() for name in used}
    for name in dict.fromkeys(table.names):
        if name not in known and table.names.count(name) == 1 and _holds_texts(name, table.values(name)):
            yield name


def _holds_texts(name: str, values: Sequence[Value]) -> bool:
    texts = [v for v in values if isinstance(v, str) and v.strip()]
    worded = [t for t in texts if any(sign.isalpha() for sign in t)]
    if not worded or 2 * len(worded) < len(values):
        return False
    if name.lower() in _NAMES:
        return True
    several = {t for t in worded if len(t.split()) > 1}
    return 2 * sum(t in several for t in worded) >= len(worded) and len(several) >= _MIN_DIFFERENT
