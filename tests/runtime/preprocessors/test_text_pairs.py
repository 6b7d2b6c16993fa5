"""Pairs of texts: what a model is given, and what it refuses."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from fastserve_runtime.errors import BundleError, UsageError
from fastserve_runtime.preprocessors.text import TextPreprocessor, TokenizerSettings
from fastserve_runtime.preprocessors.text_pairs import TextPairPreprocessor, TextPairSettings
from fastserve_runtime.preprocessors.text_samples import as_samples
from manifests import LENGTH, VOCABULARY, WORDS
from pair_bundles import pair_tokenizer_json

texts = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)


def preprocessor(*, token_types: bool = True, length: int = LENGTH) -> TextPairPreprocessor:
    return TextPairPreprocessor(pair_tokenizer_json(), TextPairSettings(length, 0, "[PAD]", token_types=token_types))


def ids(*tokens: str) -> list[int]:
    found = [VOCABULARY[token] for token in tokens]
    return found + [0] * (LENGTH - len(found))


def test_a_pair_becomes_ids_a_mask_and_the_types_of_both_texts() -> None:
    tensors = preprocessor()([("a b", "c"), ("d", "e f")])
    assert tensors["input_ids"].tolist() == [
        ids("[CLS]", "a", "b", "[SEP]", "c", "[SEP]"),
        ids("[CLS]", "d", "[SEP]", "e", "f", "[SEP]"),
    ]
    assert tensors["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 1, 1, 1, 0, 0]]
    assert tensors["token_type_ids"].dtype == np.int32
    assert tensors["attention_mask"].sum(1).tolist() == [6, 6]


def test_a_model_without_token_types_gets_none() -> None:
    assert set(preprocessor(token_types=False)([("a", "b")])) == {"input_ids", "attention_mask"}


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=4))
def test_long_pairs_lose_the_end_of_the_longer_text_as_in_transformers(pairs: list[tuple[str, str]]) -> None:
    from transformers import PreTrainedTokenizerFast

    reference = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_buffer(pair_tokenizer_json()), pad_token="[PAD]"
    )
    expected = reference(
        [a for a, _ in pairs],
        [b for _, b in pairs],
        padding="max_length",
        truncation="longest_first",
        max_length=LENGTH,
        return_token_type_ids=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = preprocessor()
        tensors = made(pairs)
    for name in ("input_ids", "token_type_ids", "attention_mask"):
        assert tensors[name].tolist() == expected[name], name
    counts = [len(i) for i in reference([a for a, _ in pairs], [b for _, b in pairs])["input_ids"]]
    assert [made.count_tokens(pair) for pair in pairs] == counts


def test_what_is_cut_off_is_told() -> None:
    with pytest.warns(UserWarning, match="1 of 2 pairs have more than 8 tokens"):
        preprocessor()([("a", "b"), ("a " * 9, "b")])


def test_a_model_of_pairs_refuses_single_texts_and_one_of_single_texts_pairs() -> None:
    with pytest.raises(UsageError, match="takes pairs of texts; the single text 'a'") as failure:
        preprocessor()(["a"])
    assert "--pair" in failure.value.remedy
    single = TextPreprocessor(pair_tokenizer_json(), TokenizerSettings(LENGTH, 0, "[PAD]"))
    with pytest.raises(UsageError, match="exported for single texts") as failure:
        single([("a", "b")])
    assert "fastserve export --pairs" in failure.value.remedy


@pytest.mark.parametrize("wrong", [("a",), ("a", "b", "c"), ("a", 1), None, 7, [["a"], ["b"]]])
def test_what_is_no_pair_is_refused(wrong: object) -> None:
    with pytest.raises(UsageError, match="A pair of texts is wanted"):
        preprocessor()([wrong])  # type: ignore[list-item]


def test_pairs_are_not_split_into_windows() -> None:
    with pytest.raises(UsageError, match="cannot be split"):
        preprocessor().windows([("a", "b")], "split")


def test_a_length_without_room_beside_the_special_tokens_is_refused() -> None:
    with pytest.raises(BundleError, match="beside 3 special tokens"):
        preprocessor(length=3)


def test_one_pair_is_told_from_several_texts() -> None:
    assert as_samples(("a", "b"), takes_pairs=True) == ([("a", "b")], True)
    assert as_samples(("a", "b"), takes_pairs=False) == (["a", "b"], False)
    assert as_samples([("a", "b"), ("c", "d")], takes_pairs=True) == ([("a", "b"), ("c", "d")], False)
    assert as_samples("a", takes_pairs=False) == (["a"], True)


def test_settings_are_written_as_they_are_read_and_single_texts_have_none() -> None:
    settings = TextPairSettings(LENGTH, 0, "[PAD]", token_types=True)
    document = json.loads(json.dumps(settings.as_document()))
    assert document["token_types"] is True
    assert "context" not in document
    assert TextPairSettings.from_document(document) == settings
    assert "token_types" not in TokenizerSettings(LENGTH, 0, "[PAD]").as_document()
    with pytest.raises(BundleError, match=r"settings\.token_types is 1, not true or false"):
        TextPairSettings.from_document({**document, "token_types": 1})
