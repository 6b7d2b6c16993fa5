"""Pairs of texts to tensors: two texts that are read together (NLI, STS, reranking), or a question and its context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fastserve_runtime.bundle.raw_inputs import TOKEN_TYPES, TextPair
from fastserve_runtime.errors import UsageError
from fastserve_runtime.parsing import Fields
from fastserve_runtime.preprocessors.context_windows import ContextSettings, context_windows
from fastserve_runtime.preprocessors.text import TextPreprocessor, TokenizerSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class TextPairSettings(TokenizerSettings):
    """How pairs of texts are made into tensors.

    Attributes:
        token_types: whether the model has an input `token_type_ids`: 1 for the second text's tokens, else 0.
        context: how the second text becomes windows where it is the context of a question; None where both texts are
            cut to fit.
    """

    token_types: bool = False
    context: ContextSettings | None = None

    @classmethod
    def fields_of(cls, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a manifest's preprocessing by name."""
        fields = Fields(dict(document), "preprocessing.settings")
        own = {
            "token_types": fields.flag("token_types"),
            "context": ContextSettings.from_document(document.get("context"), f"{fields.where}.context"),
        }
        return super().fields_of(document) | own


class TextPairPreprocessor(TextPreprocessor):
    """Makes tensors of pairs of texts: those of single texts, and `token_type_ids` (int32) for a model that has them.

    A pair that is too long loses the last tokens of whichever text is longer (`longest_first`); of a question and its
    context only the context is cut, or split into windows (`context_windows`).
    """

    takes_pairs: ClassVar[bool] = True
    noun: ClassVar[str] = "pairs"
    settings: TextPairSettings

    def __init__(self, tokenizer_json: bytes, settings: TextPairSettings) -> None:
        super().__init__(tokenizer_json, settings)
        if settings.context is not None:
            # Its windows are cut and padded one by one.
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()

    def _encoded(self, texts: Sequence[Any], context: ContextSettings | None) -> list[list[Any]]:
        """Return the windows of each question and context, those that come first in front; else each pair's parts."""
        settings = self.settings
        if settings.context is None:
            return super()._encoded(texts, None)
        found = []
        for pair in texts:
            windows = context_windows(
                self._tokenizer,
                pair,
                settings.sequence_length,
                context or settings.context,
                side=settings.truncation_side or "right",
                add_special_tokens=settings.add_special_tokens,
            )
            for window in windows:
                window.pad(settings.sequence_length, pad_id=settings.pad_id, pad_token=settings.pad_token)
            found.append(windows)
        return self._checked(found, texts)

    def _check_splits(self) -> None:
        if self.settings.context is None:
            raise UsageError(
                "Pairs of texts cannot be split into windows.",
                "Leave --long-text out, or give shorter texts, such as the passages of a document one by one.",
            )

    def _further_tensors(self, rows: Sequence[Any]) -> dict[str, NDArray[np.generic]]:
        import numpy as np

        return {TOKEN_TYPES: np.array([e.type_ids for e in rows], np.int32)} if self.settings.token_types else {}

    def _counted(self, text: Any) -> int:
        both: TextPair = text
        encoding = self._tokenizer.encode(*both, add_special_tokens=self.settings.add_special_tokens)
        if not encoding.overflowing:
            return int(sum(encoding.attention_mask))
        # The parts of a pair repeat one another's texts.
        alone = [self._tokenizer.encode(part, add_special_tokens=False) for part in both]
        own = sum(sum(e.attention_mask) + sum(sum(p.attention_mask) for p in e.overflowing) for e in alone)
        return int(own + self._special_tokens())
