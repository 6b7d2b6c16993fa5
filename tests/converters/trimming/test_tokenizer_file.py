"""Tokenizers with fewer pieces cut the texts that they were trimmed for into the same tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from checkpoints import texts
from fastserve_converters.trimming.tokenizer_file import trimmed
from fastserve_runtime.errors import UsageError

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
KINDS = ["word-piece", "bpe", "byte-bpe", "unigram"]


@cache
def document(kind: str, *, merges_in_one_string: bool = False) -> dict[str, Any]:
    """Return the file of a tokenizer that was trained on real texts, with an added token behind its vocabulary."""
    options: dict[str, Any] = {"vocab_size": 900, "special_tokens": SPECIAL, "show_progress": False}
    trainer: Any
    if kind == "word-piece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer, trainer = pre_tokenizers.BertPreTokenizer(), trainers.WordPieceTrainer(**options)
    elif kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(unk_token="<unk>", **options)
    else:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        trainer = trainers.BpeTrainer(**options)
        is_of_bytes = kind == "byte-bpe"
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel() if is_of_bytes else pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(texts(), trainer)
    if kind == "word-piece":
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
        )
    else:
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer.add_tokens(["Elbe-Havel"])
    found: dict[str, Any] = json.loads(tokenizer.to_str())
    if merges_in_one_string:
        found["model"]["merges"] = [" ".join(pair) for pair in found["model"]["merges"]]
    return found


def tokens(file: dict[str, Any], given: Sequence[str]) -> list[list[int]]:
    encoded = Tokenizer.from_str(json.dumps(file)).encode_batch(list(given))
    return [encoding.ids for encoding in encoded]


def trim(file: dict[str, Any], given: Sequence[str], *, all_characters: bool = True) -> Any:
    used = {number for ids in tokens(file, given) for number in ids}
    return trimmed(file, used, {1}, all_characters=all_characters)


@pytest.mark.parametrize("kind", KINDS)
@given(
    chosen=st.lists(st.sampled_from(texts()), min_size=1, max_size=12),
    own=st.text(max_size=30),
    all_characters=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_texts_keep_their_tokens(kind: str, chosen: list[str], own: str, *, all_characters: bool) -> None:
    file = document(kind)
    result = trim(file, [*chosen, own], all_characters=all_characters)
    assert len(result.old_ids) < len(Tokenizer.from_str(json.dumps(file)).get_vocab())
    after = tokens(result.document, [*chosen, own])
    assert [[result.old_ids[number] for number in ids] for ids in after] == tokens(file, [*chosen, own])


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_of_before_has_its_name_and_added_ones_stay(kind: str) -> None:
    result = trim(document(kind), texts()[:5])
    before, after = (Tokenizer.from_str(json.dumps(d)) for d in (document(kind), result.document))
    assert after.get_vocab_size() == len(result.old_ids)
    assert [after.id_to_token(new) for new in range(len(result.old_ids))] == [
        before.id_to_token(old) for old in result.old_ids
    ]
    assert {"Elbe-Havel", *SPECIAL} <= after.get_vocab().keys()
    assert after.encode("Elbe-Havel").ids[1:-1] == [len(result.old_ids) - 1]


@pytest.mark.parametrize("kind", ["word-piece", "bpe"])
def test_with_all_characters_nothing_becomes_unknown_that_was_not(kind: str) -> None:
    file = document(kind)
    result = trim(file, texts()[:5])
    unknown = file["model"]["vocab"]["<unk>"]
    before, after = tokens(file, texts()), tokens(result.document, texts())
    assert sum(ids.count(unknown) for ids in before) == sum(ids.count(result.new_ids[unknown]) for ids in after)


def test_the_unknown_character_costs_as_much_as_before() -> None:
    model = trim(document("unigram"), ["a"], all_characters=False).document["model"]
    assert min(score for _, score in model["vocab"]) == min(score for _, score in document("unigram")["model"]["vocab"])
    assert model["vocab"][model["unk_id"]][0] == "<unk>"


def test_merges_are_written_as_they_were() -> None:
    result = trim(document("bpe", merges_in_one_string=True), texts()[:5])
    merges = result.document["model"]["merges"]
    assert merges
    assert all(isinstance(merge, str) for merge in merges)
    assert len(merges) < len(document("bpe")["model"]["merges"])


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model": {"type": "WordLevel", "vocab": {}}}, "is of the kind WordLevel; vocabularies are trimmed of WordPi"),
        ({"post_processor": {"type": "Unheard"}}, "post-processor is of the kind Unheard"),
        ({"model": {**document("bpe")["model"], "dropout": 0.1}}, "has the setting 'dropout' \\(0.1\\)"),
        ({"model": {**document("bpe")["model"], "end_of_word_suffix": "</w>"}}, "the setting 'end_of_word_suffix'"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        trimmed({**document("bpe"), **changes}, {5}, {1}, all_characters=True)


def test_an_id_that_no_token_has_is_refused() -> None:
    with pytest.raises(UsageError, match="names the id 4000"):
        trimmed(document("bpe"), {5}, {4000}, all_characters=True)
