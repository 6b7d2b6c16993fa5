"""Unigram: a text is cut into the pieces whose scores have the greatest sum; see `VocabularyKind`.

The best way is still there without pieces that no text uses, and no other one comes in.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from fastserve_converters.trimming.byte_pair import BYTE_PIECES
from fastserve_runtime.errors import UsageError


def check(model: Mapping[str, Any]) -> None:
    """Refuse a vocabulary that has a piece twice."""
    if len(pieces(model)) != len(model["vocab"]):
        raise UsageError(
            "The tokenizer's Unigram vocabulary has a piece more than once.", "Leave the pass trim-vocabulary out."
        )


def pieces(model: Mapping[str, Any]) -> Mapping[str, int]:
    """Return the id of each piece."""
    return {piece: number for number, (piece, _) in enumerate(model["vocab"])}


def needed(model: Mapping[str, Any], used: Collection[str], *, all_characters: bool) -> set[str]:
    """Return the pieces that are used, the unknown one, bytes, single characters, and one of the lowest score.

    An unknown character costs a fixed number more than the lowest score.
    """
    vocabulary: Sequence[tuple[str, float]] = model["vocab"]
    found = {*used, min(vocabulary, key=lambda entry: entry[1])[0]}
    if model.get("unk_id") is not None:
        found.add(vocabulary[model["unk_id"]][0])
    if all_characters:
        found |= {piece for piece, _ in vocabulary if len(piece) == 1}
    if model.get("byte_fallback"):
        found |= BYTE_PIECES & {piece for piece, _ in vocabulary}
    return found


def cut(model: Mapping[str, Any], kept: Sequence[str]) -> dict[str, Any]:
    """Return the model with some pieces alone."""
    scores = dict(model["vocab"])
    unknown = None if model.get("unk_id") is None else kept.index(model["vocab"][model["unk_id"]][0])
    return {**model, "vocab": [[piece, scores[piece]] for piece in kept], "unk_id": unknown}
