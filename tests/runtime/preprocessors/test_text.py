import json
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_runtime.bundle.golden import Golden
from fastserve_runtime.errors import BundleError, EnvironmentFailure, UsageError
from fastserve_runtime.preprocessors.text import TextPreprocessor, TokenizerSettings
from manifests import LENGTH, VOCABULARY, token_ids, tokenizer_json

SETTINGS = TokenizerSettings(LENGTH, 0, "[PAD]")
DOCUMENT = {"sequence_length": 16, "pad_id": 1, "pad_token": "<pad>", "add_special_tokens": False}


@pytest.fixture(scope="module")
def preprocess():
    return TextPreprocessor(tokenizer_json(), SETTINGS)


@pytest.fixture(autouse=True)
def _no_warning_passes_unseen():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


class TestSettings:
    def test_all_are_read(self):
        assert TokenizerSettings.from_document(DOCUMENT) == TokenizerSettings(16, 1, "<pad>", add_special_tokens=False)

    def test_special_tokens_are_added_if_nothing_is_said(self):
        del (document := dict(DOCUMENT))["add_special_tokens"]
        assert TokenizerSettings.from_document(document).add_special_tokens

    @pytest.mark.parametrize("name", ["sequence_length", "pad_id", "pad_token"])
    @pytest.mark.parametrize("value", [None, -1, [], 1.5])
    def test_a_wrong_or_missing_one_is_named(self, name, value):
        with pytest.raises(BundleError, match=f"preprocessing.settings.{name} is"):
            TokenizerSettings.from_document(DOCUMENT | {name: value})
        with pytest.raises(BundleError, match=f"preprocessing.settings has no field '{name}'"):
            TokenizerSettings.from_document({k: v for k, v in DOCUMENT.items() if k != name})


def test_texts_become_padded_ids_and_a_mask(preprocess):
    tensors = preprocess(["a b", "c", ""])
    ids = np.array([token_ids("a b"), token_ids("c"), token_ids("")])
    assert {name: value.dtype.name for name, value in tensors.items()} == {
        "input_ids": "int32",
        "attention_mask": "float32",
    }
    np.testing.assert_array_equal(tensors["input_ids"], ids)
    np.testing.assert_array_equal(tensors["attention_mask"], ids != 0)


def test_padding_and_special_tokens_follow_the_settings():
    settings = TokenizerSettings(4, 9, "[PAD]", add_special_tokens=False)
    tensors = TextPreprocessor(tokenizer_json(), settings)(["a b"])
    np.testing.assert_array_equal(tensors["input_ids"], [[VOCABULARY["a"], VOCABULARY["b"], 9, 9]])
    np.testing.assert_array_equal(tensors["attention_mask"], [[1, 1, 0, 0]])


def test_a_text_that_fills_the_length_is_not_cut(preprocess):
    tensors = preprocess(["a b c d e f"])
    np.testing.assert_array_equal(tensors["input_ids"], [token_ids("a b c d e f")])
    assert tensors["attention_mask"].all()


def test_longer_texts_are_cut_with_a_warning_of_how_many(preprocess):
    with pytest.warns(UserWarning, match="2 of 3 texts have more than 8 tokens and are cut off"):
        tensors = preprocess(["a b c d e f a", "a", "a b c d e f a b c d e f a b c"])
    np.testing.assert_array_equal(tensors["input_ids"][0], token_ids("a b c d e f"))
    np.testing.assert_array_equal(tensors["input_ids"][2], token_ids("a b c d e f"))


class TestWindows:
    def test_texts_that_fit_are_one_window_each(self, preprocess):
        windows = preprocess.windows(["a b", "c d e f a b"], "split")
        assert windows.text_of.tolist() == [0, 1]
        assert [windows.of_text(i) for i in range(2)] == [[0], [1]]
        np.testing.assert_array_equal(windows.tensors["input_ids"], preprocess(["a b", "c d e f a b"])["input_ids"])

    def test_a_long_text_is_split_without_losing_or_repeating_a_word(self, preprocess):
        windows = preprocess.windows(["c", "a b c d e f a b c d e f f", "d"], "split")
        assert windows.text_of.tolist() == [0, 1, 1, 1, 2]
        parts = [token_ids(part) for part in ("a b c d e f", "a b c d e f", "f")]
        np.testing.assert_array_equal(windows.tensors["input_ids"][1:4], parts)
        np.testing.assert_allclose(windows.weights(windows.of_text(1)), [6 / 13, 6 / 13, 1 / 13])

    @given(st.lists(st.integers(0, 40), min_size=1, max_size=5))
    def test_windows_hold_every_token_once_whatever_the_lengths(self, preprocess, lengths):
        texts = [" ".join("abcdef"[i % 6] for i in range(n)) for n in lengths]
        windows = preprocess.windows(texts, "split")
        assert windows.tensors["input_ids"].shape == windows.special.shape == (len(windows.text_of), LENGTH)
        for i, text in enumerate(texts):
            rows = windows.of_text(i)
            words = [j for row in rows for j in windows.tensors["input_ids"][row][~windows.special[row]]]
            assert words == [VOCABULARY[word] for word in text.split()]
            assert windows.weights(rows).sum() == pytest.approx(1)

    def test_an_unknown_treatment_is_refused(self, preprocess):
        with pytest.raises(UsageError, match=r"cannot be treated by 'shorten'. Choose truncate or split"):
            preprocess.windows(["a"], "shorten")


def test_bytes_that_were_no_text_are_tokenized_as_something(preprocess):
    tensors = preprocess(["a \udcff b"])
    np.testing.assert_array_equal(tensors["input_ids"], [token_ids("a ? b")])
    assert preprocess.count_tokens("a \udcff b") == preprocess.count_tokens("a ? b") == 5


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_any_texts_give_tensors_of_the_exported_shape(preprocess, texts):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensors = preprocess(texts)
    assert tensors["input_ids"].shape == tensors["attention_mask"].shape == (len(texts), LENGTH)
    assert set(np.unique(tensors["attention_mask"])) <= {0.0, 1.0}
    for text, mask in zip(texts, tensors["attention_mask"], strict=True):
        assert mask.sum() == min(preprocess.count_tokens(text), LENGTH)


@pytest.mark.parametrize(
    ("texts", "given"), [([], "no text"), (["a", 3], "3"), ([None], "None"), ([b"a"], "b'a'"), ([["a"]], r"\['a'\]")]
)
def test_what_is_no_text_is_refused(preprocess, texts, given):
    with pytest.raises(UsageError, match=f"A text is wanted; {given} was given"):
        preprocess(texts)


@pytest.mark.parametrize("words", [0, 1, 5, 6, 7, 8, 12, 13, 40])
def test_tokens_are_counted_as_if_nothing_were_cut_or_padded(preprocess, words):
    assert preprocess.count_tokens(" ".join(["a"] * words)) == words + 2


def test_tokens_are_counted_without_special_ones_where_none_are_added():
    plain = TextPreprocessor(tokenizer_json(), TokenizerSettings(4, 0, "[PAD]", add_special_tokens=False))
    assert [plain.count_tokens("a " * words) for words in (0, 3, 4, 5, 11)] == [0, 3, 4, 5, 11]


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", b"\xff\xfe", json.dumps({"model": {}}).encode()])
def test_a_damaged_tokenizer_is_refused(content):
    with pytest.raises(BundleError, match="The tokenizer file is damaged"):
        TextPreprocessor(content, SETTINGS)


@pytest.mark.parametrize("length", [0, 1, 2])
def test_a_length_without_room_for_a_text_is_refused(length):
    with pytest.raises(BundleError, match=f"length of {length} leaves no room beside 2 special tokens"):
        TextPreprocessor(tokenizer_json(), TokenizerSettings(length, 0, "[PAD]"))


@pytest.mark.parametrize("settings", [TokenizerSettings(2**70, 0, "[PAD]"), TokenizerSettings(8, 2**40, "[PAD]")])
def test_settings_beyond_the_tokenizers_numbers_are_refused(settings):
    with pytest.raises(BundleError, match="cannot take the bundle's settings"):
        TextPreprocessor(tokenizer_json(), settings)


def test_without_the_library_it_is_said_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(EnvironmentFailure, match=r"Install it: pip install 'tokenizers>="):
        TextPreprocessor(b"{}", SETTINGS)


def test_inputs_that_texts_do_not_give_any_more_are_named(preprocess):
    texts = ["a b", " ".join("abcdef" * 3)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = preprocess(texts)
    golden = Golden(np.array(texts), np.array(["short", "full"]), np.ones(2, bool), before, {}, {})
    assert preprocess.differing(golden) == []
    changed = before["input_ids"].copy()
    changed[0, 1] += 1
    assert preprocess.differing(replace(golden, inputs={**before, "input_ids": changed})) == ["input_ids"]
    assert preprocess.differing(replace(golden, inputs={**before, "token_type_ids": changed})) == ["token_type_ids"]
    assert preprocess.differing(replace(golden, texts=golden.texts[:1])) == list(before)
