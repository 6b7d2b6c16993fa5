"""Text to tensors with the `tokenizers` library alone: no Transformers on the device."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from fastserve_runtime.bundle.raw_inputs import POOLING_MASK, Text
from fastserve_runtime.errors import BundleError, UsageError
from fastserve_runtime.parsing import Fields
from fastserve_runtime.preprocessors.text_encoding import SIDES, Side, check_tokens, encode_texts
from fastserve_runtime.preprocessors.text_prompts import Prompts, chosen_prompt, unpooled_tokens, with_prompt
from fastserve_runtime.preprocessors.text_samples import checked_samples
from fastserve_runtime.sessions.token_ids import vocabulary_size
from fastserve_runtime.tokenizer_library import open_tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Self

    from fastserve_runtime.bundle.golden import Golden
    from fastserve_runtime.preprocessors.context_windows import ContextSettings
    from fastserve_runtime.sessions.session import Tensors

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
        prompts: what may be put before a text, or None.
        vocabulary_size: how many rows the model's embedding has; None where unknown.
        truncation_side: where a text that is too long loses tokens; None means at its end.
        reserved_id: an id that no text may have, since the model counts positions by it; None where there is none.
        split_special_tokens: whether special tokens that stand in a text are read as any text is; None: they are not.
    """

    sequence_length: int
    pad_id: int
    pad_token: str
    add_special_tokens: bool = True
    prompts: Prompts | None = None
    vocabulary_size: int | None = None
    truncation_side: Side | None = None
    reserved_id: int | None = None
    split_special_tokens: bool | None = None

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Read the settings of a manifest's preprocessing.

        Raises:
            BundleError: one is missing, or not of the kind that it must be.
        """
        return cls(**cls.fields_of(document))

    @classmethod
    def fields_of(cls, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a manifest's preprocessing by name."""
        fields = Fields(dict(document), "preprocessing.settings")
        return {
            "sequence_length": fields.count("sequence_length"),
            "pad_id": fields.count("pad_id"),
            "pad_token": fields.text("pad_token"),
            "add_special_tokens": bool(document.get("add_special_tokens", True)),
            "prompts": Prompts.from_document(document, fields.where),
            "vocabulary_size": vocabulary_size(document),
            "truncation_side": _side(document.get("truncation_side")),
            "reserved_id": fields.count("reserved_id") if document.get("reserved_id") is not None else None,
            "split_special_tokens": (
                fields.flag("split_special_tokens") if document.get("split_special_tokens") is not None else None
            ),
        }

    def as_document(self) -> dict[str, Any]:
        """Return the settings as a manifest has them; `from_document` reads them back."""
        own = {name: value for name, value in asdict(self).items() if value is not None and name != "prompts"}
        return own | (self.prompts.as_document() if self.prompts is not None else {})


@dataclass(frozen=True)
class Windows:
    """Texts as a model takes them: each is one window of tokens, or several where long texts are split.

    Attributes:
        tensors: `input_ids` (int32) and `attention_mask` (float32), shape [windows, sequence_length]; of pairs, where
            the model tells their texts apart by it, also `token_type_ids` (int32); where prompts are not pooled, also
            `pooling_mask` (float32).
        special: which tokens are special or padding, bool, the same shape.
        text_of: the number of the text that a window belongs to, ascending, shape [windows].
        encodings: the `tokenizers.Encoding` of each window, which knows where its tokens stand in the texts.
    """

    tensors: Tensors
    special: NDArray[np.bool_]
    text_of: NDArray[np.intp]
    encodings: Sequence[Any] = ()

    def of_text(self, number: int) -> list[int]:
        """Return the rows of one text's windows, in order."""
        start, end = self.text_of.searchsorted([number, number + 1])
        return list(range(int(start), int(end)))

    def weights(self, rows: Sequence[int]) -> NDArray[np.float64]:
        """Return the share of each window in their text's tokens, special ones apart; the shares add up to 1."""
        import numpy as np

        counts = [float((~self.special[row]).sum()) or 1.0 for row in rows]
        return np.array(counts) / sum(counts)


class TextPreprocessor:
    """Makes `input_ids` (int32) and `attention_mask` (float32), both of shape [n, sequence_length], from texts.

    Pairs of texts are for `TextPairPreprocessor`.

    Attributes:
        takes_pairs: whether the model takes pairs of texts, and no single ones.
        noun: what it is given, in messages.
        settings: how it makes them.
    """

    takes_pairs: ClassVar[bool] = False
    noun: ClassVar[str] = "texts"
    settings: TokenizerSettings

    def __init__(self, tokenizer_json: bytes, settings: TokenizerSettings) -> None:
        tokenizer = open_tokenizer(tokenizer_json)
        length = settings.sequence_length
        self._tokenizer = tokenizer
        self.settings = settings
        special = self._special_tokens()
        if length <= special:
            raise BundleError(f"A sequence length of {length} leaves no room beside {special} special tokens.")
        tokenizer.encode_special_tokens = bool(settings.split_special_tokens)
        try:
            side = settings.truncation_side or "right"
            tokenizer.enable_truncation(length, strategy="longest_first", direction=side)
            tokenizer.enable_padding(length=length, pad_id=settings.pad_id, pad_token=settings.pad_token)
        except OverflowError as error:
            raise BundleError(f"The tokenizer cannot take the bundle's settings {settings}: {error}.") from error
        if settings.vocabulary_size is not None and settings.pad_id >= settings.vocabulary_size:
            raise BundleError(
                f"The bundle pads texts with the id {settings.pad_id}; its model has the ids 0 to "
                f"{settings.vocabulary_size - 1}.",
                "Export it again.",
            )

    def __call__(self, texts: Sequence[Text]) -> Tensors:
        """Tokenize, with the default prompt, truncate with a warning, and pad; see `windows`."""
        return self.windows(texts, "truncate").tensors

    def windows(
        self,
        texts: Sequence[Text],
        long_text: LongText = "truncate",
        *,
        prompt: str | None = None,
        context: ContextSettings | None = None,
    ) -> Windows:
        """Tokenize and pad; texts with too many tokens are cut off with a warning, or split into several windows.

        Windows do not overlap, except those of a context; each has the special tokens of a whole text, and the first
        one the prompt.

        Args:
            texts: one or more.
            long_text: what becomes of those that are too long.
            prompt: the name of what is put before each; None: the default one; `""`: nothing.
            context: how contexts are split, of a model that answers questions; None: as the settings say.

        Raises:
            UsageError: there is no text, one of them is not what the model takes, `long_text` is neither, a pair of
                texts is to be split, or there is no such prompt.
            InputError: a text has a token that the model cannot take.
        """
        import numpy as np

        name = chosen_prompt(self.settings.prompts, prompt)
        clean = [
            with_prompt(self.settings.prompts, name, text)
            for text in checked_samples(texts, takes_pairs=self.takes_pairs)
        ]
        if checked_long_text(long_text) == "split":
            self._check_splits()
        length = self.settings.sequence_length
        found = self._encoded(clean, context)
        cut = sum(len(parts) > 1 for parts in found)
        if cut and long_text == "truncate":
            what = f"{cut} of {len(clean)} {self.noun}"
            warnings.warn(f"{what} have more than {length} tokens and are cut off.", stacklevel=2)
        parts = [self._in_order(whole) if long_text == "split" else whole[:1] for whole in found]
        rows = [part for text in parts for part in text]
        tensors: dict[str, NDArray[np.generic]] = {
            "input_ids": np.array([e.ids for e in rows], np.int32),
            "attention_mask": np.array([e.attention_mask for e in rows], np.float32),
        }
        tensors |= self._further_tensors(rows)
        unpooled = unpooled_tokens(self.settings.prompts, name)
        if unpooled is not None:
            pooled = tensors["attention_mask"].copy()
            pooled[np.cumsum([0, *map(len, parts[:-1])]), :unpooled] = 0
            tensors[POOLING_MASK] = pooled
        return Windows(
            tensors=tensors,
            special=np.array([e.special_tokens_mask for e in rows], bool),
            text_of=np.repeat(np.arange(len(clean)), [len(text) for text in parts]),
            encodings=rows,
        )

    def _encoded(self, texts: Sequence[Any], context: ContextSettings | None) -> list[list[Any]]:  # noqa: ARG002
        """Return each text's encoding, followed by what overflows it.

        Args:
            texts: with their prompts.
            context: as `windows` was asked for it; of texts that have one.
        """
        encodings = encode_texts(self._tokenizer, texts, add_special_tokens=self.settings.add_special_tokens)
        return self._checked([[e, *e.overflowing] for e in encodings], texts)

    def _check_splits(self) -> None:
        """Refuse to split what cannot be.

        Raises:
            UsageError: it cannot.
        """

    def _further_tensors(self, rows: Sequence[Any]) -> dict[str, NDArray[np.generic]]:  # noqa: ARG002
        """Return what the model takes beside ids and mask, of the encodings of all windows."""
        return {}

    def _special_tokens(self) -> int:
        """Return how many special tokens a sample gets."""
        if not self.settings.add_special_tokens:
            return 0
        return int(self._tokenizer.num_special_tokens_to_add(self.takes_pairs))

    def _checked(self, parts: list[list[Any]], texts: Sequence[Any]) -> list[list[Any]]:
        settings = self.settings
        check_tokens(parts, texts, vocabulary_size=settings.vocabulary_size, reserved_id=settings.reserved_id)
        return parts

    def _in_order(self, parts: list[Any]) -> list[Any]:
        """Return the parts of a text from its beginning to its end; cut at the left, they come the other way round."""
        return parts[::-1] if self.settings.truncation_side == "left" else parts

    def raw_inputs(self, golden: Golden) -> list[Text]:
        """Return a golden's texts, or pairs of texts; see `Preprocessor`."""
        return golden.samples

    def differing(self, golden: Golden) -> list[str]:
        """Return the names of a golden's inputs that its texts do not give now; see `Preprocessor`."""
        import numpy as np

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an over-long text is meant to be cut off
            tensors = self(golden.samples)
        return [n for n, before in golden.inputs.items() if n not in tensors or not np.array_equal(tensors[n], before)]

    def count_tokens(self, text: Text, prompt: str | None = None) -> int:
        """Return how many tokens a text or pair has before it is cut off or padded.

        Special ones are counted, and those of the prompt.

        Args:
            text: the text or pair.
            prompt: the name of what is put before it; None: the default one; `""`: nothing.
        """
        (clean,) = checked_samples([text], takes_pairs=self.takes_pairs)
        clean = with_prompt(self.settings.prompts, chosen_prompt(self.settings.prompts, prompt), clean)
        return self._counted(clean)

    def _counted(self, text: Any) -> int:
        encoding = self._tokenizer.encode(text, add_special_tokens=self.settings.add_special_tokens)
        # Each overflowing part has special tokens of its own; padding is marked as special too.
        rest = sum(is_special == 0 for part in encoding.overflowing for is_special in part.special_tokens_mask)
        return int(sum(encoding.attention_mask) + rest)


def _side(value: Any) -> Side | None:
    if value is not None and value not in SIDES:
        raise BundleError(
            f"The bundle's 'truncation_side' is {value!r:.40}, which is neither {' nor '.join(SIDES)}.",
            "Export it again.",
        )
    return value  # type: ignore[no-any-return]


def checked_long_text(name: str) -> LongText:
    """Return what becomes of long texts, as one of the words that are known.

    Raises:
        UsageError: it is none of them.
    """
    for known in LONG_TEXT:
        if name == known:
            return known
    raise UsageError(f"Long texts cannot be treated by '{name}'.", f"Choose {' or '.join(LONG_TEXT)}.")
