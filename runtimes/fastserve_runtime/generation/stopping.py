"""Strings that end a text, found while it is still being made."""

from __future__ import annotations

from collections.abc import Iterable

from fastserve_runtime.errors import UsageError


class StopStrings:
    """Passes text on up to the first stop string, which may lie across any number of pieces.

    The first one is that which is complete first; of several complete at once, the longest. So how a text is cut into
    pieces never changes what comes out. At most the longest stop string less one character is held back.

    Attributes:
        strings: what ends a text.
        matched: the string that ended it, None while none did.
    """

    def __init__(self, strings: Iterable[str]) -> None:
        """Take the strings that end a text; none at all is fine.

        Raises:
            UsageError: one of them is empty or no string, or one string was given in place of several.
        """
        if isinstance(strings, str):
            raise UsageError(f"The stop strings are one string, {strings!r:.60}.", "Give a list or tuple of strings.")
        self.strings = tuple(strings)
        for string in self.strings:
            if not isinstance(string, str) or not string:
                raise UsageError(f"A stop string cannot be {string!r:.60}.", "Give strings of at least one character.")
        self.matched: str | None = None
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """Take the next piece of text.

        Returns:
            What is now known to come before any stop string, and whether one was found. After that, nothing comes any
            more: `("", True)`.
        """
        if self.matched is not None:
            return "", True
        text = self._held + text
        found = [(start + len(s), start, s) for s in self.strings if (start := text.find(s)) >= 0]
        if found:
            _, start, self.matched = min(found)
            self._held = ""
            return text[:start], True
        held = max((overlap(text, s) for s in self.strings), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held], False

    def flush(self) -> str:
        """Return what was held back, once it is known that no more text comes."""
        held, self._held = self._held, ""
        return held


def overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of a text that a string begins with, less than the whole of the string."""
    lengths = range(min(len(text), len(stop) - 1), 0, -1)
    return next((n for n in lengths if text.endswith(stop[:n])), 0)
