"""A `tokenizer.json` with some pieces alone: every id that stands in it is mapped."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastserve_converters.trimming import VocabularyKind, byte_pair, unigram, word_piece
from fastserve_runtime.errors import UsageError

KINDS: Mapping[str, VocabularyKind] = {"WordPiece": word_piece, "BPE": byte_pair, "Unigram": unigram}
"""By the type of the tokenizer's model."""
_REMEDY = "Leave the pass trim-vocabulary out."


@dataclass(frozen=True)
class Trimmed:
    """A tokenizer with fewer pieces.

    Attributes:
        document: its `tokenizer.json`.
        old_ids: the ids of before, in the order of those of now.
    """

    document: dict[str, Any]
    old_ids: Sequence[int]

    @property
    def new_ids(self) -> Mapping[int, int]:
        """Id of before → id of now, of what is kept."""
        return {old: new for new, old in enumerate(self.old_ids)}


def kind_of(document: Mapping[str, Any]) -> VocabularyKind:
    """Return what knows a tokenizer's kind of model.

    Raises:
        UsageError: nothing does, or it has settings that are not understood.
    """
    model = document["model"]
    if model["type"] not in KINDS:
        raise UsageError(
            f"The tokenizer is of the kind {model['type']}; vocabularies are trimmed of {', '.join(KINDS)}.", _REMEDY
        )
    KINDS[model["type"]].check(model)
    return KINDS[model["type"]]


def trimmed(
    document: Mapping[str, Any], used: Collection[int], kept: Collection[int], *, all_characters: bool
) -> Trimmed:
    """Return a tokenizer without the pieces that nothing needs. Added tokens, special or not, stay.

    Args:
        document: its `tokenizer.json`.
        used: ids of the tokens of texts.
        kept: ids that stay whatever texts use.
        all_characters: see `VocabularyKind.needed`.

    Raises:
        UsageError: an id that is to stay has no piece, or something in the file is not understood.
    """
    kind = kind_of(document)
    model: Mapping[str, Any] = document["model"]
    ids = kind.pieces(model)
    by_id = {number: piece for piece, number in ids.items()}
    added = {token["id"]: token["content"] for token in document["added_tokens"]}
    lost = sorted(set(kept) - by_id.keys() - added.keys())
    if lost:
        raise UsageError(f"The model's config names the id {lost[0]}, which no token of its tokenizer has.", _REMEDY)
    wanted = {*used, *kept, *added, *_named_ids(document)}
    names = kind.needed(model, {by_id[number] for number in wanted if number in by_id}, all_characters=all_characters)
    pieces = sorted(names, key=lambda piece: ids[piece])
    # Behind the vocabulary, as the library numbers tokens that are no pieces of it.
    others = sorted(number for number in added if number not in by_id)
    result = Trimmed({}, [*(ids[piece] for piece in pieces), *others])
    numbers = result.new_ids
    result.document.update(
        {
            **document,
            "model": kind.cut(model, pieces),
            "added_tokens": [{**token, "id": numbers[token["id"]]} for token in document["added_tokens"]],
            "post_processor": _mapped(document.get("post_processor"), numbers),
        }
    )
    if document.get("padding") is not None:
        padding = document["padding"]
        result.document["padding"] = {**padding, "pad_id": numbers.get(padding["pad_id"], 0)}
    return result


def _named_ids(document: Mapping[str, Any]) -> set[int]:
    """Return the ids that the post-processor puts around texts."""
    found: set[int] = set()
    _mapped(document.get("post_processor"), _Asked(found))
    return found


class _Asked(dict[int, int]):
    """Maps ids to themselves, and writes down which were asked for."""

    def __init__(self, found: set[int]) -> None:
        super().__init__()
        self.found = found

    def __missing__(self, number: int) -> int:
        self.found.add(number)
        return number


def _mapped(processor: Mapping[str, Any] | None, numbers: Mapping[int, int]) -> dict[str, Any] | None:
    """Return a post-processor with other ids.

    Raises:
        UsageError: it is of a kind that is not known.
    """
    if processor is None:
        return None
    kind = processor["type"]
    if kind == "Sequence":
        return {**processor, "processors": [_mapped(each, numbers) for each in processor["processors"]]}
    if kind == "TemplateProcessing":
        tokens = {
            name: {**token, "ids": [numbers[number] for number in token["ids"]]}
            for name, token in processor["special_tokens"].items()
        }
        return {**processor, "special_tokens": tokens}
    if kind in ("BertProcessing", "RobertaProcessing"):
        ends = {end: [processor[end][0], numbers[processor[end][1]]] for end in ("sep", "cls")}
        return {**processor, **ends}
    if kind == "ByteLevel":
        return dict(processor)
    raise UsageError(f"The tokenizer's post-processor is of the kind {kind}, whose ids are not known.", _REMEDY)
