"""Text from tokens while they come, one after another.

What a token adds to a text depends on those around it: bytes of one character may lie in several tokens, and decoders
drop the space before the first word. So each new token is decoded together with a few before it, as vLLM and
text-generation-inference do, and what is new at the end is passed on. The `tokenizers` library
has a `DecodeStream` from version 0.21 on, which is not used: it cannot give what is left at the end, holds back all
text from a byte that never becomes a character, and fails where byte tokens after a character are no UTF-8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

REPLACEMENT = "\ufffd"
_UNFINISHED = 3
"""Bytes of UTF-8 that an unfinished character has at most; decoders give up to one replacement sign for each."""
_LONGEST_WINDOW = 24
_SHORT_WINDOW = 8


class Decoder(Protocol):
    """Makes text from tokens; `tokenizers.Tokenizer` is one."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:  # noqa: FBT001, FBT002
        """Return the text of tokens."""


class ShowingDecoder:
    """A decoder that gives the text of one special token too, such as that which begins calls of functions."""

    def __init__(self, decoder: Decoder, token: int, text: str) -> None:
        self._decoder, self._token, self._shown = decoder, token, text

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:  # noqa: FBT001, FBT002
        """Return the text of tokens."""
        parts: list[list[int]] = [[]]
        for token in ids:
            if token == self._token:
                parts.append([])
            else:
                parts[-1].append(token)
        return self._shown.join(self._decoder.decode(part, skip_special_tokens) if part else "" for part in parts)


class TokenStream:
    """Turns tokens into pieces of text, which together are the text of all tokens.

    A piece never ends inside a character, which here is a Unicode code point: combining marks and the parts of joined
    emoji come as the tokens give them. A token takes the same time however many came before.

    One text differs from what the decoder makes of all tokens at once: where byte tokens of a SentencePiece vocabulary
    are no UTF-8, its decoder also replaces the whole characters right before them. Here these have been passed on and
    stay.
    """

    def __init__(self, decoder: Decoder, *, after: Sequence[int] = (), skip_special_tokens: bool = True) -> None:
        """Begin a text.

        Args:
            decoder: what makes text from tokens.
            after: tokens that come before, such as the last of a prompt to be continued: their text does not come
                out, but a space behind them does. Without them, a text begins as the decoder begins one.
            skip_special_tokens: whether special tokens give no text.
        """
        self._decoder = decoder
        self._skip = skip_special_tokens
        self._window = list(after)[-_LONGEST_WINDOW:]
        self._text = self._decode(self._window)
        self._passed_on = len(self._text)

    def push(self, token: int) -> str:
        """Take the next token and return the text that is now certain, often that of this token, sometimes none."""
        window = [*self._window, token]
        text = self._decode(window)
        if text == self._text and not self._decode([token, token]):
            return ""  # a special token: kept, it would take the place of one that decides about spaces
        if not text.startswith(self._text[: self._passed_on]):
            window, text = self._without_passed_on(token)
        self._window, self._text = window, text
        replaced = len(text) - len(text.rstrip(REPLACEMENT))
        end = max(len(text) - min(replaced, _UNFINISHED), self._passed_on)
        piece = text[self._passed_on : end]
        self._passed_on = end
        if len(self._window) > _LONGEST_WINDOW:
            self._shorten()
        return piece

    def flush(self) -> str:
        """Return what is left, once no more tokens come: U+FFFD where a character was cut."""
        piece = self._text[self._passed_on :]
        self._passed_on = len(self._text)
        return piece

    def _decode(self, tokens: Sequence[int]) -> str:
        return self._decoder.decode(tokens, skip_special_tokens=self._skip) if tokens else ""

    def _without_passed_on(self, token: int) -> tuple[list[int], str]:
        # The token spoils bytes that were a character: they are out, and it begins anew.
        window = [*self._pending(), token]
        self._passed_on = 0
        return window, self._decode(window)

    def _pending(self) -> list[int]:
        """Return the tokens whose text is not passed on yet."""
        waiting = self._text[self._passed_on :]
        counts = range(len(self._window)) if waiting else range(1)
        return next(
            (tail for n in counts if self._decode(tail := self._window[len(self._window) - n :]) == waiting),
            list(self._window),
        )

    def _shorten(self) -> None:
        waiting = len(self._text) - self._passed_on
        tail = self._window[-_SHORT_WINDOW:]
        text = self._decode(tail)
        # A little of what was passed on must stay, or what follows would count as the beginning of a text.
        self._window, self._text = tail, text
        self._passed_on = max(len(text) - waiting, 0)
