"""WordPiece: each word is cut into the longest pieces from its beginning; see `VocabularyKind`.

A piece that no text uses was never the longest that fits, so nothing changes without it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

_PREFIX, _UNKNOWN = "continuing_subword_prefix", "unk_token"


def check(model: Mapping[str, Any]) -> None:
    """Take all of them."""


def pieces(model: Mapping[str, Any]) -> Mapping[str, int]:
    """Return the id of each piece."""
    found: Mapping[str, int] = model["vocab"]
    return found


def needed(model: Mapping[str, Any], used: Collection[str], *, all_characters: bool) -> set[str]:
    """Return the pieces that are used, the unknown one, and single characters, at a word's beginning and inside."""
    prefix: str = model[_PREFIX]
    characters = [p for p in model["vocab"] if len(p.removeprefix(prefix)) == 1] if all_characters else []
    return {*used, *characters, *({model[_UNKNOWN]} & model["vocab"].keys())}


def cut(model: Mapping[str, Any], kept: Sequence[str]) -> dict[str, Any]:
    """Return the model with some pieces alone."""
    return {**model, "vocab": {piece: number for number, piece in enumerate(kept)}}
