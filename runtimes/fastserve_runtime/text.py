"""Text to tensors with the `tokenizers` library alone: no Transformers on the device."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastserve_runtime.errors import BundleError, EnvironmentFailure, UsageError
from fastserve_runtime.parsing import Fields

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KIND = "tokenizer"


@dataclass(frozen=True)
class TokenizerSettings:
    """How text is made into tensors.

    Attributes:
        sequence_length: every text is padded or truncated to this many tokens.
        pad_id: the id that fills the rest.
        pad_token: its text.
        add_special_tokens: whether the tokenizer's template ([CLS] … [SEP]) is applied.
    """

    sequence_length: int
    pad_id: int
    pad_token: str
    add_special_tokens: bool = True

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> TokenizerSettings:
        """Read the settings of a manifest's preprocessing."""
        fields = Fields(dict(document), "preprocessing.settings")
        return cls(
            fields.count("sequence_length"),
            fields.count("pad_id"),
            fields.text("pad_token"),
            bool(document.get("add_special_tokens", True)),
        )


class TextPreprocessor:
    """Makes `input_ids` (int32) and `attention_mask` (float32), both of shape [n, sequence_length], from texts."""

    def __init__(self, tokenizer_json: bytes, settings: TokenizerSettings) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise EnvironmentFailure(
                f"The tokenizers library cannot be imported: {error}.", "Install it: pip install tokenizers."
            ) from error
        try:
            tokenizer = Tokenizer.from_buffer(tokenizer_json)
        except Exception as error:  # the binding raises plain Exception
            raise BundleError(f"The tokenizer file is damaged: {error}.", "Export the bundle again.") from error
        length = settings.sequence_length
        special = tokenizer.num_special_tokens_to_add(False) if settings.add_special_tokens else 0  # noqa: FBT003
        if length <= special:
            raise BundleError(f"A sequence length of {length} leaves no room beside {special} special tokens.")
        try:
            tokenizer.enable_truncation(length)
            tokenizer.enable_padding(length=length, pad_id=settings.pad_id, pad_token=settings.pad_token)
        except OverflowError as error:
            raise BundleError(f"The tokenizer cannot take the bundle's settings {settings}: {error}.") from error
        self._tokenizer = tokenizer
        self.settings = settings

    def __call__(self, texts: Sequence[str]) -> dict[str, NDArray[np.generic]]:
        """Tokenize, truncate with a warning, and pad.

        Raises:
            UsageError: there is no text, or one of them is not a string.
        """
        import numpy as np

        wrong = [t for t in texts if not isinstance(t, str)]
        if wrong or not texts:
            given = f"{wrong[0]!r:.60}" if wrong else "no text"
            raise UsageError(f"A text is wanted; {given} was given.", "Give one string or several.")
        length = self.settings.sequence_length
        clean = [_clean(t) for t in texts]
        encodings = self._tokenizer.encode_batch(clean, add_special_tokens=self.settings.add_special_tokens)
        cut = sum(bool(e.overflowing) for e in encodings)
        if cut:
            warnings.warn(f"{cut} of {len(texts)} texts have more than {length} tokens and are cut off.", stacklevel=2)
        return {
            "input_ids": np.array([e.ids for e in encodings], np.int32),
            "attention_mask": np.array([e.attention_mask for e in encodings], np.float32),
        }

    def count_tokens(self, text: str) -> int:
        """Return how many tokens a text has, special ones included, before it is cut off or padded."""
        encoding = self._tokenizer.encode(_clean(text), add_special_tokens=self.settings.add_special_tokens)
        # Each overflowing part has special tokens of its own; padding is marked as special too.
        rest = sum(is_special == 0 for part in encoding.overflowing for is_special in part.special_tokens_mask)
        return sum(encoding.attention_mask) + rest


def _clean(text: str) -> str:
    # Lone surrogates, from bytes that were no UTF-8, cannot be tokenized.
    return text.encode("utf-8", "replace").decode("utf-8")
