"""Kind `tokenizer`: single texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastserve_converters.data import Sample, Split
from fastserve_converters.inputs import LoadedCheckpoint, PreparedInputs
from fastserve_converters.inputs._golden_texts import GoldenText, golden_texts
from fastserve_converters.inputs._texts import (
    Tokens,
    compared_names,
    divide_texts,
    own_tokenizer,
    prepare_texts,
    read_texts,
    tokens_by_row,
)
from fastserve_runtime.bundle.raw_inputs import TOKENIZER, Text
from fastserve_runtime.preprocessors.text import LongText, TextPreprocessor, Windows

read = read_texts
"""Makes samples of tables; see `InputKind`."""
divide = divide_texts
"""Divides texts; see `InputKind`."""


def prepare(divided: Split, model: LoadedCheckpoint, out: Path) -> PreparedInputs:
    """Tokenize texts as the device will; see `InputKind`."""
    own = own_tokenizer(model, out)
    kind = SingleTexts(own.theirs, TextPreprocessor(own.content, own.settings))
    return prepare_texts(own, kind, divided, model.checkpoint)


@dataclass(frozen=True)
class SingleTexts:
    """Single texts with their tokenizers; see `TextKind`."""

    theirs: Any
    preprocessor: TextPreprocessor
    kind: str = TOKENIZER
    long_text: LongText = "truncate"

    def goldens(self, evaluation: Sequence[Sample]) -> list[GoldenText]:
        """Choose golden texts."""
        return golden_texts(evaluation, self.preprocessor)

    def expected(self, texts: Sequence[Text], windows: Windows) -> Iterator[tuple[Tokens, int]]:
        """Give what Transformers makes of texts, cut off where they are too long."""
        # Padding is ours alone: a tokenizer may have none, or have it on the left.
        length = self.preprocessor.settings.sequence_length
        found = self.theirs(list(texts), truncation=True, max_length=length, return_token_type_ids=False)
        for row, tokens in enumerate(tokens_by_row(found, compared_names(windows))):
            yield tokens, row

    def notes(self, evaluation: Sequence[Sample]) -> list[str]:  # noqa: ARG002 -- of pairs there is something
        """Return nothing."""
        return []
