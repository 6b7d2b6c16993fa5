"""A question with a context that is longer than the model: windows that overlap, each with the whole question.

So do Transformers' question answering and its `run_qa.py`: the question is cut to some length, the context is never
cut, and neighbouring windows share some tokens, so that an answer at the end of one is whole in the next.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastserve_runtime.errors import InputError, UsageError
from fastserve_runtime.parsing import Fields
from fastserve_runtime.preprocessors.text_encoding import Side, encode_texts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_CONTEXT = 1
"""The sequence id of a pair's second text."""
USUAL_STRIDE = 128
USUAL_QUESTION = 64
"""Of Transformers' pipeline; it halves the first for short sequences."""


@dataclass(frozen=True)
class ContextSettings:
    """How a context becomes windows.

    Attributes:
        stride: tokens of the context that neighbouring windows share.
        question_tokens: a question with more tokens is cut.
    """

    stride: int
    question_tokens: int

    @classmethod
    def usual(cls, length: int, special: int) -> ContextSettings:
        """Return what Transformers takes for windows of a length; a question leaves at least half of one free.

        Args:
            length: tokens of a window.
            special: so many of them are special tokens.
        """
        return cls(min(length // 2, USUAL_STRIDE), max(1, min(USUAL_QUESTION, (length - special) // 2)))

    @classmethod
    def from_document(cls, document: Any, where: str) -> ContextSettings | None:
        """Read the settings of a manifest; None where there are none."""
        if document is None:
            return None
        fields = Fields(document, where)
        return cls(fields.count("stride"), fields.count("question_tokens"))


def context_windows(
    tokenizer: Any,
    pair: tuple[str, str],
    length: int,
    settings: ContextSettings,
    *,
    side: Side = "right",
    add_special_tokens: bool = True,
) -> list[Any]:
    """Return the `tokenizers.Encoding` of every window, not padded, first the one that a cut pair would keep.

    Args:
        tokenizer: a `tokenizers.Tokenizer` that neither truncates nor pads.
        pair: question and context.
        length: tokens of a window, special ones included, at most.
        settings: how they overlap; see `fitting_stride`.
        side: where a cut context loses tokens; with `left`, windows go from its end to its beginning.
        add_special_tokens: whether the tokenizer's template is applied.

    Raises:
        InputError: the question leaves no room for the context.
    """
    question, context = encode_texts(tokenizer, pair, add_special_tokens=False)
    asked = len(question)
    question.truncate(settings.question_tokens)
    if asked > len(question):
        warnings.warn(
            f"The question {pair[0]!r:.60} has {asked} tokens; it is cut after {len(question)}.", stacklevel=2
        )
    special = tokenizer.num_special_tokens_to_add(True) if add_special_tokens else 0  # noqa: FBT003
    room = length - special - len(question)
    if room < 1:
        raise InputError(
            f"The question {pair[0]!r:.60} has {len(question)} tokens, and the model takes {length} of question, "
            f"context and {special} special ones: nothing is left for the context.",
            "Ask a shorter question, or export the model with a larger --seq-len.",
        )
    context.truncate(room, stride=fitting_stride(settings, room), direction=side)
    parts = [context, *context.overflowing]
    return [tokenizer.post_process(question, part, add_special_tokens=add_special_tokens) for part in parts]


def fitting_stride(settings: ContextSettings, room: int) -> int:
    """Return how many tokens windows share that have so much room for their context.

    A stride that would leave no window anything new is half of it.
    """
    return settings.stride if settings.stride < room else room // 2


def checked_context_settings(
    usual: ContextSettings, stride: int | None, question_tokens: int | None
) -> ContextSettings:
    """Return settings with those that a call names.

    Raises:
        UsageError: one of them is too small.
    """
    if stride is not None and stride < 0:
        raise UsageError(f"Windows were to share {stride} tokens.", "Ask for a doc_stride of at least 0.")
    if question_tokens is not None and question_tokens < 1:
        raise UsageError(
            f"Questions were to be cut at {question_tokens} tokens.", "Ask for a max_question_len of at least 1."
        )
    return ContextSettings(
        usual.stride if stride is None else stride,
        usual.question_tokens if question_tokens is None else question_tokens,
    )


@dataclass(frozen=True)
class ContextTokens:
    """Which tokens of windows are the context's, and where they stand in it.

    Attributes:
        is_context: shape [windows, tokens].
        spans: first character of each token in its context, and the one behind its last, int32, shape
            [windows, tokens, 2]; zeros for other tokens. Characters are code points, as Python counts them.
    """

    is_context: NDArray[np.bool_]
    spans: NDArray[np.int32]


def context_tokens(encodings: Sequence[Any], *, align_to_words: bool = True) -> ContextTokens:
    """Return where the tokens of windows stand.

    Args:
        encodings: of the windows, all padded to one length.
        align_to_words: give each token the span of its whole word, as far as that is in the window.
    """
    import numpy as np

    is_context = np.array([[s == _CONTEXT for s in e.sequence_ids] for e in encodings], bool)
    spans = np.array([e.offsets for e in encodings], np.int32)
    spans[~is_context] = 0
    if align_to_words:
        for row, encoding in enumerate(encodings):
            _widen(spans[row], is_context[row], encoding.word_ids)
    return ContextTokens(is_context, spans)


def _widen(spans: NDArray[np.int32], is_context: NDArray[np.bool_], words: Sequence[int | None]) -> None:
    """Give each token of a context the span of its word; tokens without a word keep theirs."""
    places: dict[int, list[int]] = {}
    for place in is_context.nonzero()[0].tolist():
        word = words[place]
        if word is not None:
            places.setdefault(word, []).append(place)
    for own in places.values():
        spans[own] = spans[own[0], 0], spans[own[-1], 1]
