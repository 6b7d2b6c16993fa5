"""Tokenizing texts, and refusing those of which a model cannot take a token, each by its own name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from fastserve_runtime.errors import InputError, one_line

Side = Literal["left", "right"]
SIDES: tuple[Side, ...] = ("left", "right")


def encode_texts(tokenizer: Any, texts: Sequence[Any], *, add_special_tokens: bool) -> list[Any]:
    """Return the `tokenizers.Encoding` of every text.

    Args:
        tokenizer: a `tokenizers.Tokenizer`.
        texts: strings, or pairs of them.
        add_special_tokens: whether the tokenizer's template is applied.

    Raises:
        InputError: naming the first text that cannot be tokenized.
    """
    try:
        found: list[Any] = tokenizer.encode_batch(list(texts), add_special_tokens=add_special_tokens)
    except Exception:  # the binding raises plain Exception, and does not say for which text
        for number, text in enumerate(texts, 1):
            _encode_one(tokenizer, number, text, add_special_tokens=add_special_tokens)
        raise
    return found


def _encode_one(tokenizer: Any, number: int, text: Any, *, add_special_tokens: bool) -> None:
    try:
        tokenizer.encode_batch([text], add_special_tokens=add_special_tokens)
    except Exception as error:
        raise InputError(
            f"Text {number} ({text!r:.60}) cannot be tokenized: {one_line(error)}.",
            "The model's tokenizer has no token for what stands in it; leave that out.",
        ) from error


def check_tokens(
    encodings: Sequence[Sequence[Any]], texts: Sequence[Any], *, vocabulary_size: int | None, reserved_id: int | None
) -> None:
    """Refuse texts with tokens that the model has no row for, or that it takes for padding.

    Args:
        encodings: of each text, in their order, its parts.
        texts: for the message.
        vocabulary_size: how many rows the model's embedding has; None where unknown.
        reserved_id: an id that a text must not have; None where there is none.

    Raises:
        InputError: naming the first such text and its token.
    """
    for number, (parts, text) in enumerate(zip(encodings, texts, strict=True), 1):
        for part in parts:
            if vocabulary_size is not None and max(part.ids, default=0) >= vocabulary_size:
                place = next(i for i, token in enumerate(part.ids) if token >= vocabulary_size)
                raise InputError(
                    f"Text {number} ({text!r:.60}) has the token '{part.tokens[place]}' with the id {part.ids[place]}; "
                    f"the model's embedding has {vocabulary_size} rows.",
                    "Leave it out; or resize the model to its tokenizer, train the new rows, and export again.",
                )
            if reserved_id is not None and _holds(part, reserved_id):
                place = part.ids.index(reserved_id)
                raise InputError(
                    f"Text {number} ({text!r:.60}) has the token '{part.tokens[place]}', by which this model tells "
                    "padding: it would count the positions behind it in another way.",
                    "Leave it out.",
                )


def _holds(encoding: Any, token: int) -> bool:
    """Whether a token stands among those that are not padding."""
    return any(i == token and counts for i, counts in zip(encoding.ids, encoding.attention_mask, strict=True))
