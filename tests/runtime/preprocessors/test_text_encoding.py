"""A text whose tokens the model cannot take is an error that names it, before any engine sees it."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_runtime.errors import BundleError, InputError
from fastserve_runtime.preprocessors.text import TextPreprocessor, TokenizerSettings
from manifests import LENGTH, VOCABULARY, token_ids, tokenizer_json

HIGHEST = max(VOCABULARY.values())
WORDS = sorted(word for word in VOCABULARY if not word.startswith("["))


def preprocessor(**settings: object) -> TextPreprocessor:
    return TextPreprocessor(tokenizer_with_padding(), TokenizerSettings(LENGTH, 0, "[PAD]", **settings))


def spoilt_tokenizer(**model: object) -> bytes:
    document = json.loads(tokenizer_json())
    document["model"] |= model
    return json.dumps(document).encode()


def tokenizer_with_padding() -> bytes:
    """The same tokenizer, which knows its padding token in a text, as real ones do."""
    from tokenizers import AddedToken, Tokenizer

    tokenizer = Tokenizer.from_str(tokenizer_json().decode())
    tokenizer.add_special_tokens([AddedToken("[PAD]", special=True)])
    return str(tokenizer.to_str()).encode()


def test_a_token_beyond_the_table_names_its_text() -> None:
    last = next(word for word, number in VOCABULARY.items() if number == HIGHEST)
    few = preprocessor(vocabulary_size=HIGHEST)
    few(["a"])
    with pytest.raises(InputError) as failure:
        few(["a", f"a {last}", last])
    assert f"Text 2 ('a {last}') has the token '{last}' with the id {HIGHEST}" in failure.value.problem
    assert f"{HIGHEST} rows" in failure.value.problem
    preprocessor(vocabulary_size=HIGHEST + 1)([last])


def test_what_is_cut_off_is_looked_at_too() -> None:
    last = next(word for word, number in VOCABULARY.items() if number == HIGHEST)
    with pytest.raises(InputError, match="with the id"):
        preprocessor(vocabulary_size=HIGHEST).windows(["a " * 3 * LENGTH + last], "split")


@given(st.lists(st.sampled_from(WORDS), max_size=20))
def test_every_id_that_is_given_is_in_the_table(words: list[str]) -> None:
    for rows in range(5, HIGHEST + 2):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ids = preprocessor(vocabulary_size=rows)([" ".join(words)])["input_ids"]
        except InputError:
            assert any(VOCABULARY[word] >= rows for word in words)
        else:
            assert ids.max() < rows


def test_padding_beyond_the_table_is_a_fault_of_the_bundle() -> None:
    settings = TokenizerSettings(LENGTH, 9, "[PAD]", vocabulary_size=9)
    with pytest.raises(BundleError, match="pads texts with the id 9; its model has the ids 0 to 8"):
        TextPreprocessor(tokenizer_json(), settings)


def test_the_padding_token_in_a_text_is_a_token_like_others() -> None:
    tensors = preprocessor()(["a [PAD] b"])
    assert tensors["input_ids"][0, 2] == VOCABULARY["[PAD]"]
    assert tensors["attention_mask"][0].tolist() == [1] * 5 + [0] * (LENGTH - 5)


def test_where_positions_are_counted_by_it_it_is_refused() -> None:
    reserving = preprocessor(reserved_id=0)
    reserving(["a b", ""])
    with pytest.raises(InputError, match=r"Text 2 \('a \[PAD\] b'\) has the token '\[PAD\]'"):
        reserving(["a", "a [PAD] b"])


def test_a_text_may_be_cut_at_its_beginning() -> None:
    words = ["a", "b", "c", "d", "e", "f"] * 3
    left = preprocessor(truncation_side="left")
    with pytest.warns(UserWarning, match="cut off"):
        ids = left([" ".join(words)])["input_ids"]
    np.testing.assert_array_equal(ids[0], token_ids(" ".join(words[-(LENGTH - 2) :])))
    windows = left.windows([" ".join(words)], "split")
    kept = [
        int(i)
        for row, special in zip(windows.tensors["input_ids"], windows.special, strict=True)
        for i in row[~special]
    ]
    assert kept == [VOCABULARY[word] for word in words], "windows come in the order of the text"


def test_a_text_that_cannot_be_tokenized_is_named() -> None:
    broken = TextPreprocessor(spoilt_tokenizer(unk_token="[NONE]"), TokenizerSettings(LENGTH, 0, "[PAD]"))
    broken(["a"])
    with pytest.raises(InputError, match=r"Text 2 \('zzz'\) cannot be tokenized: .*Missing") as failure:
        broken(["a", "zzz"])
    assert "\n" not in failure.value.problem


@pytest.mark.parametrize(
    ("field", "value"),
    [("truncation_side", "middle"), ("vocabulary_size", 0), ("vocabulary_size", "9"), ("reserved_id", -1)],
)
def test_settings_of_another_kind_are_refused(field: str, value: object) -> None:
    document = {"sequence_length": LENGTH, "pad_id": 0, "pad_token": "[PAD]", field: value}
    with pytest.raises(BundleError, match=field):
        TokenizerSettings.from_document(document)


def test_settings_are_written_as_they_are_read_and_without_what_says_nothing() -> None:
    plain = TokenizerSettings(LENGTH, 0, "[PAD]")
    assert set(plain.as_document()) == {"sequence_length", "pad_id", "pad_token", "add_special_tokens"}
    full = TokenizerSettings(LENGTH, 0, "[PAD]", vocabulary_size=9, truncation_side="left", reserved_id=0)
    for settings in (plain, full):
        assert TokenizerSettings.from_document(settings.as_document()) == settings
