"""Vocabularies with fewer pieces: which are needed, and the tokenizer's file without the others, one module a kind."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol


class VocabularyKind(Protocol):
    """What a module for one kind of tokenizer model offers. Its functions take the `model` of a `tokenizer.json`."""

    def check(self, model: Mapping[str, Any]) -> None:
        """Refuse settings that are not understood.

        Raises:
            UsageError: naming one.
        """

    def pieces(self, model: Mapping[str, Any]) -> Mapping[str, int]:
        """Return the id of each piece."""

    def needed(self, model: Mapping[str, Any], used: Collection[str], *, all_characters: bool) -> set[str]:
        """Return the pieces without which texts would be cut otherwise than into those that they use.

        Args:
            model: the tokenizer's.
            used: the pieces that texts are cut into.
            all_characters: whether every piece of one character stays, so that other texts lose nothing: they become
                more tokens, and not unknown ones.
        """

    def cut(self, model: Mapping[str, Any], kept: Sequence[str]) -> dict[str, Any]:
        """Return the model with some pieces alone, whose ids are their numbers in the list."""
