"""The texts that a command line names."""

from __future__ import annotations

from collections.abc import Sequence

from fastserve_runtime.bundle.raw_inputs import TextPair
from fastserve_runtime.errors import UsageError
from fastserve_runtime.standard_input import standard_input_lines

STANDARD_INPUT = "-"


def given_texts(words: Sequence[str]) -> list[str]:
    """Return the texts of the command line, the lines of standard input in the place of '-'.

    Raises:
        UsageError: there is none, or '-' stands there twice.
    """
    if not words:
        raise UsageError("No text was given.", "Give one behind the bundle, or '-' for the lines of standard input.")
    if words.count(STANDARD_INPUT) > 1:
        raise UsageError("Standard input was asked for twice.", "Give '-' once.")
    texts: list[str] = []
    for word in words:
        texts.extend(standard_input_lines() if word == STANDARD_INPUT else [word])
    if not texts:
        raise UsageError("Standard input holds no text.", "Write one text a line.")
    return texts


def given_pairs(words: Sequence[str]) -> list[TextPair]:
    """Return the texts of the command line two by two; a line of standard input has both, with a tab between.

    Raises:
        UsageError: there is none, their number is odd, or a line has not one tab.
    """
    if tuple(words) == (STANDARD_INPUT,):
        return [_pair_of(line) for line in given_texts(words)]
    if STANDARD_INPUT in words:
        raise UsageError(
            "Texts and '-' were given together, and pairs are taken two by two.",
            "Give '-' alone, with both texts of a pair in a line and a tab between.",
        )
    texts = given_texts(words)
    if len(texts) % 2:
        raise UsageError(f"{len(texts)} texts were given; pairs take them two by two.", "Give two texts for each pair.")
    return list(zip(texts[::2], texts[1::2], strict=True))


def _pair_of(line: str) -> TextPair:
    first, tab, second = line.partition("\t")
    if not tab or "\t" in second:
        raise UsageError(
            f"The line {line!r:.60} of standard input is no pair of texts.", "Write two texts with one tab between."
        )
    return first, second


def is_list(words: Sequence[str]) -> bool:
    """Whether the command line may mean several texts."""
    return len(words) > 1 or STANDARD_INPUT in words
