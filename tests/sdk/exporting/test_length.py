"""For how many tokens a model is exported, where its own files say where texts are cut."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastserve.exporting.length import check_asked_length, export_length, length_notes
from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.checkpoints.sentence_transformers import TextSettings
from fastserve_converters.checkpoints.task import USUAL_LENGTH
from fastserve_runtime.errors import UsageError

SENTENCE_BERT = "sentence_bert_config.json"


@pytest.fixture
def cut(tiny_bert):
    """Makes a checkpoint with 66 positions that cuts texts somewhere."""

    def make(maximum: int | None, file: str = SENTENCE_BERT) -> Checkpoint:
        texts = TextSettings(max_seq_length=maximum, max_seq_length_from=file)
        return replace(read_checkpoint(tiny_bert), texts=texts)

    return make


@pytest.mark.parametrize(
    ("maximum", "asked", "length"), [(None, None, 64), (8, None, 8), (512, None, 64), (8, 32, 32), (32, 8, 8)]
)
def test_a_model_is_exported_for_the_usual_length_or_where_its_files_cut(cut, maximum, asked, length: int) -> None:
    assert USUAL_LENGTH == 64
    assert export_length(cut(maximum), asked, None) == length


def test_a_length_beyond_the_positions_is_refused(cut) -> None:
    with pytest.raises(UsageError, match="length of 67 was asked for; the model has positions for 66"):
        export_length(cut(512), 67, None)


def test_a_model_that_cuts_at_too_few_tokens_wants_a_length_by_word(cut) -> None:
    with pytest.raises(UsageError, match=r"max_seq_length in sentence_bert_config\.json is 3"):
        export_length(cut(3), None, None)
    assert export_length(cut(3), 4, None) == 4


def test_a_context_means_nothing_to_an_encoder(cut) -> None:
    with pytest.raises(UsageError, match="--context was given"):
        export_length(cut(None), None, 64)


@pytest.mark.parametrize(("sequence", "context"), [(3, None), (None, 31)])
def test_lengths_that_no_model_has_are_refused(sequence, context) -> None:
    with pytest.raises(UsageError, match="was asked for"):
        check_asked_length(sequence, context)


def notes(checkpoint: Checkpoint, length: int, *, was_asked: bool) -> str:
    return " ".join(length_notes(checkpoint, length, was_asked=was_asked))


def test_a_bundle_that_cuts_later_than_the_model_says_so(cut) -> None:
    said = notes(cut(8), 32, was_asked=True)
    assert "cut at 32 tokens, as you asked for; sentence-transformers cuts them at 8" in said
    assert "(max_seq_length in sentence_bert_config.json)" in said


def test_a_bundle_that_cuts_sooner_without_being_asked_says_so(cut) -> None:
    said = notes(cut(512, "tokenizer_config.json"), 64, was_asked=False)
    # 512 is more than there are positions.
    assert "cuts them at 66 (model_max_length in tokenizer_config.json): so does --seq-len 66" in said


@pytest.mark.parametrize(("maximum", "length", "was_asked"), [(8, 8, False), (None, 64, False), (32, 16, True)])
def test_where_nothing_differs_or_the_user_has_said_so_there_is_no_note(cut, maximum, length, was_asked) -> None:
    assert notes(cut(maximum), length, was_asked=was_asked) == ""
