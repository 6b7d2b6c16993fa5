"""What the kinds of texts have in common: their tokenizer, dividing them, and the proof of equal tokens."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.prompt_tokens import prompts_of
from fastserve_converters.checkpoints.task import TASKS, Task, known_of_windows
from fastserve_converters.checkpoints.tokenizer_checks import code_note, embedding_rows, file_note, text_settings
from fastserve_converters.checkpoints.tokenizer_loading import TOKENIZER_FILE, load_tokenizer
from fastserve_converters.data import MAX_CALIBRATION, Sample, Split, samples_of, split_samples
from fastserve_converters.inputs import GivenData, LoadedCheckpoint, PreparedInputs
from fastserve_runtime.bundle.raw_inputs import TOKEN_TYPES, Text
from fastserve_runtime.errors import EnvironmentFailure
from fastserve_runtime.preprocessors.text_prompts import chosen_prompt, with_prompt

if TYPE_CHECKING:
    from fastserve_converters.inputs._golden_texts import GoldenText
    from fastserve_runtime.preprocessors.text import LongText, TextPreprocessor, TokenizerSettings, Windows

Tokens = Mapping[str, Sequence[int]]
"""The tokens of a text by the input's name, without padding."""


@dataclass(frozen=True)
class OwnTokenizer:
    """A checkpoint's tokenizer.

    Attributes:
        theirs: as Transformers loads it.
        content: the `tokenizer.json` that a bundle gets.
        settings: how single texts are made into tensors with it.
        notes: what the user should know of it, in sentences.
    """

    theirs: Any
    content: bytes
    settings: TokenizerSettings
    notes: tuple[str, ...]


class TextKind(Protocol):
    """What differs between kinds of texts."""

    @property
    def kind(self) -> str:
        """The manifest's name for it."""

    @property
    def long_text(self) -> LongText:
        """What becomes of samples that are too long."""

    @property
    def preprocessor(self) -> TextPreprocessor:
        """What makes tensors, as on the device."""

    def goldens(self, evaluation: Sequence[Sample]) -> list[GoldenText]:
        """Choose the samples that ship with a bundle."""

    def expected(self, texts: Sequence[Text], windows: Windows) -> Iterable[tuple[Tokens, int]]:
        """Give the tokens of texts by Transformers' own tokenizer, each with the number of its window."""

    def notes(self, evaluation: Sequence[Sample]) -> list[str]:
        """Return what the user should know of the samples, in sentences."""


def read_texts(data: GivenData, model: Checkpoint) -> list[Sample]:
    """Make samples of tables, for the task of a checkpoint.

    Raises:
        UsageError: naming the file and the row that are not as they must be.
    """
    task: Task = TASKS.load(model.task)
    return samples_of(data.files.tables, data.columns, task.label_kind(model), takes_pairs=model.takes_pairs)


def divide_texts(samples: Sequence[Sample], model: Checkpoint, seed: int) -> Split:
    """Divide samples, a query's documents side by side where the task of a checkpoint ranks them."""
    task: Task = TASKS.load(model.task)
    return split_samples(samples, seed, by_query=task.RANKS)


def own_tokenizer(model: LoadedCheckpoint, out: Path) -> OwnTokenizer:
    """Load a checkpoint's tokenizer and write it to a folder, as a bundle gets it.

    Raises:
        UsageError: it cannot be used on a device.
    """
    theirs = load_tokenizer(model.checkpoint)
    settings, notes = text_settings(model.checkpoint, theirs, embedding_rows(model.model), model.length)
    settings = replace(settings, prompts=prompts_of(model.checkpoint.texts, theirs, model.length))
    theirs.backend_tokenizer.save(str(out / TOKENIZER_FILE))
    return OwnTokenizer(theirs, (out / TOKENIZER_FILE).read_bytes(), settings, tuple(notes))


def prepare_texts(own: OwnTokenizer, kind: TextKind, split: Split, checkpoint: Checkpoint) -> PreparedInputs:
    """Choose golden samples, and tokenize all as the device will.

    Raises:
        EnvironmentFailure: the bundle's tokenizer and Transformers' disagree.
    """
    task: Task = TASKS.load(checkpoint.task)
    goldens = kind.goldens(split.evaluation)
    evaluation, golden, calibration = _windows(kind, split, goldens)
    for windows, texts in ((evaluation, _contents(split.evaluation)), (golden, [g.content for g in goldens])):
        prove_same_tokens(kind, texts, windows)
    labels = [s.label for s in split.evaluation]
    return PreparedInputs(
        preprocessing={"kind": kind.kind, "settings": kind.preprocessor.settings.as_document()},
        evaluation=evaluation.tensors,
        golden=golden.tensors,
        calibration={name: rows[:MAX_CALIBRATION] for name, rows in calibration.tensors.items()},
        goldens=[g.as_document() for g in goldens],
        samples=len(split.evaluation),
        calibration_samples=len(split.calibration),
        known=known_of_windows(task, split.evaluation, evaluation),
        labels=[label for label in labels if label is not None] if None not in labels else None,
        notes=(
            *own.notes,
            *code_note(checkpoint, own.theirs),
            *file_note(checkpoint, own.theirs, [s.text for s in split.evaluation]),
            *kind.notes(split.evaluation),
        ),
    )


def _windows(kind: TextKind, split: Split, goldens: Sequence[GoldenText]) -> tuple[Windows, Windows, Windows]:
    make = kind.preprocessor.windows
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # over-long texts are cut off here on purpose
        return (
            make(_contents(split.evaluation), kind.long_text),
            make([g.content for g in goldens]),
            make(_contents(split.calibration), kind.long_text),
        )


def _contents(samples: Sequence[Sample]) -> list[Text]:
    return [sample.content for sample in samples]


def prove_same_tokens(kind: TextKind, texts: Sequence[Text], windows: Windows) -> None:
    """Compare the bundle's preprocessing with Transformers' own.

    Args:
        kind: of the texts.
        texts: without their prompts.
        windows: of the texts, by the bundle's preprocessing.

    Raises:
        EnvironmentFailure: they give different ids.
    """
    prompts = kind.preprocessor.settings.prompts
    prompted = [with_prompt(prompts, chosen_prompt(prompts, None), text) for text in texts]
    inputs = windows.tensors
    for tokens, row in kind.expected(prompted, windows):
        mask = inputs["attention_mask"][row]
        for name, theirs in tokens.items():
            counted = len(theirs)
            if inputs[name][row, :counted].tolist() != list(theirs) or not mask[:counted].all() or mask[counted:].any():
                raise different_tokens(prompted[windows.text_of[row]])


def compared_names(windows: Windows) -> set[str]:
    """Return the names of the inputs that tokenizers give."""
    return {"input_ids", TOKEN_TYPES} & windows.tensors.keys()


def tokens_by_row(found: Mapping[str, Sequence[Sequence[int]]], names: Iterable[str]) -> list[Tokens]:
    """Return what Transformers' tokenizer gave for several texts, text by text."""
    return [{name: found[name][row] for name in names} for row in range(len(found["input_ids"]))]


def different_tokens(text: Text) -> EnvironmentFailure:
    """Return the failure that the bundle's tokenizer and Transformers' own disagree about a text."""
    return EnvironmentFailure(
        f"The bundle's tokenizer and Transformers' give different tokens for {text!r:.60}.",
        "This tokenizer is not handled right; please report it with the checkpoint's tokenizer files.",
    )
