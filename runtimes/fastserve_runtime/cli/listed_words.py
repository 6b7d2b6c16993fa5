"""Options of a command line that take several words: with commas between them, or one at a time."""

from __future__ import annotations

from collections.abc import Sequence

WORDS = "<str,...>"
"""What a help text shows in the place of the value."""


def listed_words(values: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the words of an option that may be repeated, in order and each once; None if it was not given."""
    if not values:
        return None
    words = (word.strip() for value in values for word in value.split(","))
    return tuple(dict.fromkeys(word for word in words if word))
