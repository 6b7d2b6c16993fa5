"""Kind `text-pair`: two texts that are read together, or a question with its context."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastserve_converters.data import Sample, Split
from fastserve_converters.inputs import LoadedCheckpoint, PreparedInputs
from fastserve_converters.inputs._golden_texts import GoldenText, golden_pairs
from fastserve_converters.inputs._texts import (
    Tokens,
    compared_names,
    divide_texts,
    own_tokenizer,
    prepare_texts,
    read_texts,
    tokens_by_row,
)
from fastserve_runtime.bundle.raw_inputs import TEXT_PAIR, TOKEN_TYPES, Text
from fastserve_runtime.preprocessors.context_windows import ContextSettings, fitting_stride
from fastserve_runtime.preprocessors.text import LongText, Windows
from fastserve_runtime.preprocessors.text_pairs import TextPairPreprocessor, TextPairSettings

_MANY = 0.1
"""Share of the pairs of texts that are cut off from which on it is told."""


read = read_texts
"""Makes samples of tables; see `InputKind`."""
divide = divide_texts
"""Divides texts; see `InputKind`."""


def prepare(divided: Split, model: LoadedCheckpoint, out: Path) -> PreparedInputs:
    """Tokenize pairs as the device will; see `InputKind`."""
    own, checkpoint = own_tokenizer(model, out), model.checkpoint
    special = own.theirs.num_special_tokens_to_add(pair=True)
    context = ContextSettings.usual(model.length, special) if checkpoint.reads_contexts else None
    settings = TextPairSettings(**vars(own.settings), token_types=checkpoint.has_token_types, context=context)
    kind = TextPairs(own.theirs, TextPairPreprocessor(own.content, settings), checkpoint.has_token_types)
    return prepare_texts(own, kind, divided, checkpoint)


@dataclass(frozen=True)
class TextPairs:
    """Pairs of texts with their tokenizers; see `TextKind`."""

    theirs: Any
    preprocessor: TextPairPreprocessor
    has_token_types: bool
    kind: str = TEXT_PAIR

    @property
    def long_text(self) -> LongText:
        """Contexts become windows; other pairs are cut off."""
        return "truncate" if self.preprocessor.settings.context is None else "split"

    def goldens(self, evaluation: Sequence[Sample]) -> list[GoldenText]:
        """Choose golden pairs."""
        return golden_pairs(evaluation, self.preprocessor)

    def expected(self, texts: Sequence[Text], windows: Windows) -> Iterator[tuple[Tokens, int]]:
        """Give what Transformers makes of pairs, cut off where they are too long, or of a question's windows."""
        names, settings = compared_names(windows), self.preprocessor.settings
        if settings.context is None:
            # Padding is ours alone: a tokenizer may have none, or have it on the left.
            found = self.theirs(
                *([pair[side] for pair in texts] for side in (0, 1)),
                truncation=True,
                max_length=settings.sequence_length,
                return_token_type_ids=TOKEN_TYPES in names,
            )
            yield from ((tokens, row) for row, tokens in enumerate(tokens_by_row(found, names)))
            return
        for number, pair in enumerate(texts):
            # Of goldens there is the first window alone.
            yield from zip(
                self._windows_of_transformers(pair, settings.context, names), windows.of_text(number), strict=False
            )

    def notes(self, evaluation: Sequence[Sample]) -> list[str]:
        """Return what the user should know of token types that were not asked for, and of pairs cut off."""
        notes = []
        if self.has_token_types and TOKEN_TYPES not in self.theirs.model_input_names:
            notes.append(
                f"Transformers gives {TOKEN_TYPES} with this class of tokenizer if asked; here the second text's "
                "tokens have the type 1. If the model was trained without, write 'model_input_names' without "
                f"{TOKEN_TYPES} into tokenizer_config.json."
            )
        settings = self.preprocessor.settings
        if settings.context is not None:
            return notes
        length = settings.sequence_length
        cut = sum(self.preprocessor.count_tokens(sample.content) > length for sample in evaluation)
        if cut > len(evaluation) * _MANY:
            notes.append(
                f"{cut} of {len(evaluation)} pairs have more than {length} tokens and are cut off: see --seq-len."
            )
        return notes

    def _windows_of_transformers(
        self, pair: Text, context: ContextSettings, names: Collection[str]
    ) -> Iterator[Tokens]:
        """Give the windows that Transformers makes of a question and its context; none where the question is cut."""
        length = self.preprocessor.settings.sequence_length
        asked = len(self.theirs(pair[0], add_special_tokens=False)["input_ids"])
        if asked > context.question_tokens:
            return  # Transformers cuts no question
        room = length - asked - self.theirs.num_special_tokens_to_add(pair=True)
        found = self.theirs(
            *([text] for text in pair),  # lists: a single empty text would count as none
            truncation="only_second",
            max_length=length,
            stride=fitting_stride(context, room),
            return_overflowing_tokens=True,
            return_token_type_ids=TOKEN_TYPES in names,
        )
        yield from tokens_by_row(found, names)
