"""The texts that a command line names."""

from __future__ import annotations

from collections.abc import Sequence

from fastserve_runtime.commands.streams import standard_input_lines
from fastserve_runtime.errors import UsageError

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


def is_list(words: Sequence[str]) -> bool:
    """Whether the command line may mean several texts."""
    return len(words) > 1 or STANDARD_INPUT in words
