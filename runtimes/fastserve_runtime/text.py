"""Text to tensors with the `tokenizers` library alone: no Transformers on the device."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from fastserve_runtime.errors import BundleError, EnvironmentFailure, UsageError
from fastserve_runtime.parsing import Fields

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastserve_runtime.session import Tensors

KIND = "tokenizer"
LongText = Literal["truncate", "split"]
"""What becomes of a text with more tokens than the model takes: cut off, or split into windows to be joined again."""
LONG_TEXT: tuple[LongText, ...] = get_args(LongText)
DEFAULT_LONG_TEXT: LongText = "truncate"


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


@dataclass(frozen=True)
class Windows:
    """Texts as a model takes them: each is one window of tokens, or several where long texts are split.

    Attributes:
        tensors: `input_ids` (int32) and `attention_mask` (float32), shape [windows, sequence_length].
        special: which tokens are special or padding, bool, the same shape.
        text_of: the number of the text that a window belongs to, ascending, shape [windows].
    """

    tensors: Tensors
    special: NDArray[np.bool_]
    text_of: NDArray[np.intp]

    def of_text(self, number: int) -> list[int]:
        """Return the rows of one text's windows, in order."""
        start, end = self.text_of.searchsorted([number, number + 1])
        return list(range(int(start), int(end)))

    def weights(self, rows: Sequence[int]) -> NDArray[np.float64]:
        """Return the share of each window in their text's tokens, special ones apart; the shares add up to 1."""
        import numpy as np

        counts = [float((~self.special[row]).sum()) or 1.0 for row in rows]
        return np.array(counts) / sum(counts)


def open_tokenizer(tokenizer_json: bytes) -> Any:
    """Open the content of a `tokenizer.json`.

    Returns:
        A `tokenizers.Tokenizer`.

    Raises:
        EnvironmentFailure: the `tokenizers` library is not installed.
        BundleError: the content is damaged.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise EnvironmentFailure(
            f"The tokenizers library cannot be imported: {error}.",
            "Install it: pip install 'fastserve-runtime[text]'.",
        ) from error
    try:
        return Tokenizer.from_buffer(tokenizer_json)
    except Exception as error:  # the binding raises plain Exception
        raise BundleError(f"The tokenizer file is damaged: {error}.", "Export the bundle again.") from error


class TextPreprocessor:
    """Makes `input_ids` (int32) and `attention_mask` (float32), both of shape [n, sequence_length], from texts."""

    def __init__(self, tokenizer_json: bytes, settings: TokenizerSettings) -> None:
        tokenizer = open_tokenizer(tokenizer_json)
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

    def __call__(self, texts: Sequence[str]) -> Tensors:
        """Tokenize, truncate with a warning, and pad; see `windows`."""
        return self.windows(texts, "truncate").tensors

    def windows(self, texts: Sequence[str], long_text: LongText = "truncate") -> Windows:
        """Tokenize and pad; texts with too many tokens are cut off with a warning, or split into several windows.

        Windows do not overlap; each has the special tokens of a whole text.

        Raises:
            UsageError: there is no text, one of them is not a string, or `long_text` is neither.
        """
        import numpy as np

        wrong = [t for t in texts if not isinstance(t, str)]
        if wrong or not texts:
            given = f"{wrong[0]!r:.60}" if wrong else "no text"
            raise UsageError(f"A text is wanted; {given} was given.", "Give one string or several.")
        checked_long_text(long_text)
        length = self.settings.sequence_length
        clean = [_clean(t) for t in texts]
        encodings = self._tokenizer.encode_batch(clean, add_special_tokens=self.settings.add_special_tokens)
        cut = sum(bool(e.overflowing) for e in encodings)
        if cut and long_text == "truncate":
            warnings.warn(f"{cut} of {len(texts)} texts have more than {length} tokens and are cut off.", stacklevel=2)
        parts = [[e, *e.overflowing] if long_text == "split" else [e] for e in encodings]
        rows = [part for text in parts for part in text]
        return Windows(
            tensors={
                "input_ids": np.array([e.ids for e in rows], np.int32),
                "attention_mask": np.array([e.attention_mask for e in rows], np.float32),
            },
            special=np.array([e.special_tokens_mask for e in rows], bool),
            text_of=np.repeat(np.arange(len(texts)), [len(text) for text in parts]),
        )

    def differing(self, texts: Sequence[str], inputs: Tensors) -> list[str]:
        """Return the names of inputs, made of texts before, that these texts do not give now."""
        import numpy as np

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an over-long text is meant to be cut off
            tensors = self(texts)
        return [n for n, before in inputs.items() if n not in tensors or not np.array_equal(tensors[n], before)]

    def count_tokens(self, text: str) -> int:
        """Return how many tokens a text has, special ones included, before it is cut off or padded."""
        encoding = self._tokenizer.encode(_clean(text), add_special_tokens=self.settings.add_special_tokens)
        # Each overflowing part has special tokens of its own; padding is marked as special too.
        rest = sum(is_special == 0 for part in encoding.overflowing for is_special in part.special_tokens_mask)
        return int(sum(encoding.attention_mask) + rest)


def checked_long_text(name: str) -> LongText:
    """Return what becomes of long texts, as one of the words that are known.

    Raises:
        UsageError: it is none of them.
    """
    for known in LONG_TEXT:
        if name == known:
            return known
    raise UsageError(f"Long texts cannot be treated by '{name}'.", f"Choose {' or '.join(LONG_TEXT)}.")


def _clean(text: str) -> str:
    # Lone surrogates, from bytes that were no UTF-8, cannot be tokenized.
    return text.encode("utf-8", "replace").decode("utf-8")
