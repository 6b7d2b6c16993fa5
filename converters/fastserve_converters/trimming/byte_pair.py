"""BPE: the characters of a word are merged pair by pair, in the order of the merges; see `VocabularyKind`.

What a piece is merged of stays with it: inside a piece that is left whole, the merges are those of the piece alone,
since none across its ends was made. Of all other merges none was ever the first that applies, so nothing changes
without them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from fastserve_runtime.errors import UsageError

_NOT_UNDERSTOOD = ("dropout", "continuing_subword_prefix", "end_of_word_suffix")
BYTE_PIECES = frozenset(f"<0x{byte:02X}>" for byte in range(256))
"""What stands for characters without a piece, where `byte_fallback` is on."""


def check(model: Mapping[str, Any]) -> None:
    """Refuse marks at the ends of pieces, and merges that are left out by chance."""
    for setting in _NOT_UNDERSTOOD:
        if model.get(setting):
            raise UsageError(
                f"The tokenizer's BPE has the setting '{setting}' ({model[setting]!r:.40}), with which its vocabulary "
                "is not trimmed.",
                "Leave the pass trim-vocabulary out.",
            )


def pieces(model: Mapping[str, Any]) -> Mapping[str, int]:
    """Return the id of each piece."""
    found: Mapping[str, int] = model["vocab"]
    return found


def needed(model: Mapping[str, Any], used: Collection[str], *, all_characters: bool) -> set[str]:
    """Return the pieces that are used, what they are merged of, the unknown one, bytes, and single characters."""
    vocabulary: Mapping[str, int] = model["vocab"]
    ranks = {pair: rank for rank, pair in enumerate(_pairs(model))}
    found = {part for piece in used for part in _derivation(piece, ranks)}
    if all_characters:
        found |= {piece for piece in vocabulary if len(piece) == 1}
    if model.get("byte_fallback"):
        found |= BYTE_PIECES
    return {*used, *found, *([model["unk_token"]] if model.get("unk_token") else ())} & vocabulary.keys()


def cut(model: Mapping[str, Any], kept: Sequence[str]) -> dict[str, Any]:
    """Return the model with some pieces, and the merges that make these of these."""
    numbers = {piece: number for number, piece in enumerate(kept)}
    merges = [
        written
        for written, (left, right) in zip(model["merges"], _pairs(model), strict=True)
        if left in numbers and right in numbers and left + right in numbers
    ]
    return {**model, "vocab": numbers, "merges": merges}


def _pairs(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the merges. Older files write both parts in one string."""
    split = (merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"])
    return [(left, right) for left, right in split]


def _derivation(piece: str, ranks: Mapping[tuple[str, str], int]) -> set[str]:
    """Return the characters of a piece, and what they are merged to on the way to it."""
    parts = list(piece)
    found = set(parts)
    while len(parts) > 1:
        best = min(range(len(parts) - 1), key=lambda i: ranks.get((parts[i], parts[i + 1]), len(ranks)))
        if (parts[best], parts[best + 1]) not in ranks:
            break  # a piece that is taken as it is, before any merge
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
        found.add(parts[best])
    return found
