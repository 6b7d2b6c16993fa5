"""Which logits processors a checkpoint asks for, under the names that Transformers' `generation_config.json` has."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from fastserve_runtime.errors import BundleError, UsageError
from fastserve_runtime.generation.logits_processors import (
    ExponentialDecayLengthPenalty,
    ForcedTokens,
    LogitsProcessor,
    MinLength,
    NoRepeatNgram,
    RemoveInvalidValues,
    RepetitionPenalty,
    SequenceBias,
    SuppressTokens,
    no_bad_words,
)

_LONGEST_NGRAM = 2**20
_MAX = 3e38
"""Above any score, and still a float32."""


@dataclass(frozen=True)
class ProcessorSettings:
    """What is asked for; each is without effect where it has its default.

    Attributes:
        sequence_bias: sequences of ids, each with what is added to the score of the token that would complete it.
        encoder_repetition_penalty: above 1, the prompt's own tokens become likelier.
        no_repeat_ngram_size: no run of so many tokens comes twice; 0 for any.
        encoder_no_repeat_ngram_size: no run of so many tokens of the prompt comes again; 0 for any.
        bad_words_ids: sequences that never come.
        min_length: the text does not end before it has so many tokens, those of the prompt among them; left out where
            `min_new_tokens` is given, as in Transformers.
        min_new_tokens: the text does not end before so many were generated.
        forced_bos_token_id: what comes behind a prompt of one token.
        forced_eos_token_id: one of these comes last, where the text is as long as was asked for.
        remove_invalid_values: whether scores that are no numbers, or infinite, are replaced.
        exponential_decay_length_penalty: behind how many new tokens the text's end becomes likelier, and by what factor
            for each.
        suppress_tokens: tokens that never come.
        begin_suppress_tokens: tokens that do not come first.

    Raises:
        UsageError: a value is of another type, or out of its range.
    """

    sequence_bias: tuple[tuple[tuple[int, ...], float], ...] = ()
    encoder_repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    encoder_no_repeat_ngram_size: int = 0
    bad_words_ids: tuple[tuple[int, ...], ...] = ()
    min_length: int = 0
    min_new_tokens: int = 0
    forced_bos_token_id: int | None = None
    forced_eos_token_id: tuple[int, ...] = ()
    remove_invalid_values: bool = False
    exponential_decay_length_penalty: tuple[int, float] | None = None
    suppress_tokens: tuple[int, ...] = ()
    begin_suppress_tokens: tuple[int, ...] = ()

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> ProcessorSettings:
        """Take the settings that are known from a document of JSON; None stands for what is left out.

        Raises:
            UsageError: a value is of another type, or out of its range.
        """
        read = {name: _READERS[name] for name in NAMES if given.get(name) is not None}
        values = {}
        for name, reader in read.items():
            try:
                values[name] = reader(given[name])
            except (TypeError, ValueError) as error:
                raise UsageError(
                    f"'{name}' cannot be {given[name]!r:.80}.", "Give it as Transformers' GenerationConfig takes it."
                ) from error
        if "min_new_tokens" in values:
            values.pop("min_length", None)  # so does Transformers
        return cls(**values)

    @classmethod
    def from_document(cls, document: Any) -> ProcessorSettings:
        """Read what `document` wrote.

        Raises:
            BundleError: it is damaged.
        """
        unknown = sorted(set(document) - set(NAMES)) if isinstance(document, Mapping) else ["it"]
        if unknown:
            raise BundleError(
                f"The bundle's logits processors have '{unknown[0]}', which this runtime does not know.",
                "Update fastserve-runtime.",
            )
        try:
            return cls.of(document)
        except UsageError as error:
            raise BundleError(f"The bundle's logits processors are damaged: {error}", "Export it again.") from error

    def document(self) -> dict[str, Any]:
        """Return what differs from the defaults, as JSON."""
        values = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        return {name: _plain(value) for name, (value, default) in values.items() if value != default}

    def token_ids(self) -> set[int]:
        """Return the ids that must be some of the model's, since nothing else can be meant."""
        sequences = (*self.bad_words_ids, *(sequence for sequence, _ in self.sequence_bias))
        single = () if self.forced_bos_token_id is None else (self.forced_bos_token_id,)
        return {token for tokens in (*sequences, single, self.forced_eos_token_id) for token in tokens}

    def processors(
        self, prompt: Sequence[int], ends: Collection[int], length: int, *, repetition_penalty: float = 1.0
    ) -> tuple[LogitsProcessor, ...]:
        """Make the processors of one text, in the order in which Transformers has them.

        Args:
            prompt: its tokens.
            ends: ids that end the text.
            length: how many tokens prompt and text have together where nothing ends it before.
            repetition_penalty: for all tokens before; see `Sampling`.
        """
        made: list[tuple[object, LogitsProcessor]] = []
        count = len(prompt)

        def add(is_asked: object, make: Any) -> None:
            if is_asked:
                made.append((is_asked, make()))

        decay = self.exponential_decay_length_penalty or (0, 1.0)
        first = count if count > 1 or self.forced_bos_token_id is None else count + 1
        penalty = 1 / self.encoder_repetition_penalty
        add(self.sequence_bias, lambda: SequenceBias(dict(self.sequence_bias)))
        add(penalty != 1, lambda: RepetitionPenalty(penalty, prompt))
        add(repetition_penalty != 1, lambda: RepetitionPenalty(repetition_penalty))
        add(self.no_repeat_ngram_size, lambda: NoRepeatNgram(self.no_repeat_ngram_size))
        add(self.encoder_no_repeat_ngram_size, lambda: NoRepeatNgram(self.encoder_no_repeat_ngram_size, prompt))
        add(self.bad_words_ids, lambda: no_bad_words(self.bad_words_ids, ends))
        add(self.min_length, lambda: MinLength(self.min_length, ends))
        add(self.min_new_tokens, lambda: MinLength(count + self.min_new_tokens, ends))
        add(self.forced_bos_token_id is not None, lambda: ForcedTokens([self.forced_bos_token_id or 0], 1))
        add(self.forced_eos_token_id, lambda: ForcedTokens(self.forced_eos_token_id, length - 1))
        add(self.remove_invalid_values, RemoveInvalidValues)
        add(
            self.exponential_decay_length_penalty,
            lambda: ExponentialDecayLengthPenalty(count + decay[0], decay[1], ends),
        )
        add(self.suppress_tokens, lambda: SuppressTokens(self.suppress_tokens))
        add(self.begin_suppress_tokens, lambda: SuppressTokens(self.begin_suppress_tokens, first))
        return tuple(processor for _, processor in made)


NAMES = tuple(field.name for field in fields(ProcessorSettings))


def _count(value: Any, maximum: int = 2**31) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < maximum:
        raise ValueError
    return value


def _number(value: Any) -> float:
    """Read a number; an infinite one, which JSON does not have, as the largest of its sign."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        raise ValueError
    return min(max(float(value), -_MAX), _MAX)


def _factor(value: Any) -> float:
    number = _number(value)
    if not 0 < number < _MAX:
        raise ValueError
    return number


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _ids(value: Any) -> tuple[int, ...]:
    return tuple(_count(token) for token in (value if isinstance(value, (list, tuple)) else [value]))


def _any_ids(value: Any) -> tuple[int, ...]:
    """Read ids of which those below 0 mean nothing, as in configs of speech models."""
    return _ids([token for token in value if token != -1])


def _sequence(value: Any) -> tuple[int, ...]:
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError
    return _ids(value)


def _sequences(value: Any) -> tuple[tuple[int, ...], ...]:
    return tuple(_sequence(sequence) for sequence in value)


def _biases(value: Any) -> tuple[tuple[tuple[int, ...], float], ...]:
    return tuple((_sequence(sequence), _number(bias)) for sequence, bias in value)


def _decay(value: Any) -> tuple[int, float]:
    start, factor = value
    return _count(start), _factor(factor)


_READERS: Mapping[str, Any] = {
    "sequence_bias": _biases,
    "encoder_repetition_penalty": _factor,
    "no_repeat_ngram_size": lambda value: _count(value, _LONGEST_NGRAM),
    "encoder_no_repeat_ngram_size": lambda value: _count(value, _LONGEST_NGRAM),
    "bad_words_ids": _sequences,
    "min_length": _count,
    "min_new_tokens": _count,
    "forced_bos_token_id": _count,
    "forced_eos_token_id": _ids,
    "remove_invalid_values": _flag,
    "exponential_decay_length_penalty": _decay,
    "suppress_tokens": _any_ids,
    "begin_suppress_tokens": _any_ids,
}


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
