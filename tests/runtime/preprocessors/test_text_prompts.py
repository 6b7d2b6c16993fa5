"""Prompts: what is put before texts, and kept out of the pooling where a model wants that."""

from __future__ import annotations

import numpy as np
import pytest

from fastserve_runtime.bundle.golden import Golden
from fastserve_runtime.bundle.raw_inputs import POOLING_MASK
from fastserve_runtime.errors import BundleError, UsageError
from fastserve_runtime.preprocessors.text import TextPreprocessor, TokenizerSettings
from fastserve_runtime.preprocessors.text_pairs import TextPairPreprocessor, TextPairSettings
from fastserve_runtime.preprocessors.text_prompts import Prompts
from manifests import LENGTH, WORDS, tokenizer_json
from pair_bundles import pair_tokenizer_json

PROMPTS = Prompts({"query": f"{WORDS[0]} {WORDS[1]} ", "document": ""}, "query")
UNPOOLED = Prompts(PROMPTS.texts, "query", {"query": 3, "document": 0})
DOCUMENT = {"sequence_length": LENGTH, "pad_id": 0, "pad_token": "[PAD]"}
TEXT = f"{WORDS[2]} {WORDS[3]}"


def preprocessor(prompts: Prompts | None) -> TextPreprocessor:
    return TextPreprocessor(tokenizer_json(), TokenizerSettings(LENGTH, 0, "[PAD]", prompts=prompts))


def ids(prompts: Prompts | None, text: str, prompt: str | None = None) -> list[int]:
    return preprocessor(prompts).windows([text], prompt=prompt).tensors["input_ids"][0].tolist()


@pytest.mark.parametrize("prompts", [PROMPTS, UNPOOLED, Prompts({"a": "b"})])
def test_settings_are_read_as_they_are_written(prompts: Prompts) -> None:
    settings = TokenizerSettings(LENGTH, 0, "[PAD]", prompts=prompts)
    assert TokenizerSettings.from_document(settings.as_document()) == settings


def test_settings_without_prompts_say_nothing_of_them() -> None:
    assert not set(TokenizerSettings(LENGTH, 0, "[PAD]").as_document()) & {"prompts", "default_prompt"}
    assert TokenizerSettings.from_document(DOCUMENT).prompts is None


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"prompts": ["a"]}, "prompts"),
        ({"prompts": {"a": 1}}, "a"),
        ({"prompts": {"a": "b"}, "default_prompt": "c"}, "c"),
        ({"prompts": {"a": "b"}, "default_prompt": 1}, "default_prompt"),
        ({"prompts": {"a": "b"}, "unpooled_tokens": {}}, "a"),
        ({"prompts": {"a": "b"}, "unpooled_tokens": {"a": -1}}, "a"),
    ],
)
def test_damaged_settings_are_named(more: dict, named: str) -> None:
    with pytest.raises(BundleError, match=rf"\b{named}\b"):
        TokenizerSettings.from_document(DOCUMENT | more)


def test_the_default_prompt_is_put_before_a_text_unless_another_or_none_is_named() -> None:
    prompted, plain = ids(None, f"{WORDS[0]} {WORDS[1]} {TEXT}"), ids(None, TEXT)
    assert prompted != plain
    assert ids(PROMPTS, TEXT) == ids(PROMPTS, TEXT, "query") == prompted
    assert ids(PROMPTS, TEXT, "") == ids(PROMPTS, TEXT, "document") == plain
    assert preprocessor(PROMPTS)([TEXT])["input_ids"][0].tolist() == prompted


def test_without_a_default_nothing_is_put_before_a_text() -> None:
    assert ids(Prompts(PROMPTS.texts), TEXT) == ids(None, TEXT)


def test_a_prompt_is_put_before_the_first_text_of_a_pair() -> None:
    settings = TextPairSettings(LENGTH, 0, "[PAD]", token_types=True, prompts=PROMPTS)
    plain = TextPairSettings(LENGTH, 0, "[PAD]", token_types=True)
    found = TextPairPreprocessor(pair_tokenizer_json(), settings)([(WORDS[2], WORDS[3])])
    expected = TextPairPreprocessor(pair_tokenizer_json(), plain)([(f"{WORDS[0]} {WORDS[1]} {WORDS[2]}", WORDS[3])])
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_tokens_are_counted_with_the_default_prompt() -> None:
    assert preprocessor(PROMPTS).count_tokens(TEXT) == preprocessor(None).count_tokens(TEXT) + 2


def test_texts_are_compared_with_the_prompt_that_the_pipeline_takes() -> None:
    given = Golden(np.array([TEXT]), np.array(["short"]), np.array([True]), preprocessor(PROMPTS)([TEXT]), {}, {})
    assert preprocessor(PROMPTS).differing(given) == []
    assert preprocessor(None).differing(given) == ["input_ids", "attention_mask"]


@pytest.mark.parametrize(("prompts", "remedy"), [(PROMPTS, "Its prompts are: query, document."), (None, "It has none")])
def test_a_prompt_that_there_is_not_is_named(prompts: Prompts | None, remedy: str) -> None:
    with pytest.raises(UsageError, match="The bundle has no prompt 'passage'") as failure:
        preprocessor(prompts).windows([TEXT], prompt="passage")
    assert remedy in failure.value.remedy


def test_a_prompt_may_be_kept_out_of_the_pooling() -> None:
    tensors = preprocessor(UNPOOLED)([TEXT, WORDS[4]])
    mask, pooled = tensors["attention_mask"], tensors[POOLING_MASK]
    assert pooled.dtype == np.float32
    assert not pooled[:, :3].any()
    np.testing.assert_array_equal(pooled[:, 3:], mask[:, 3:])


def test_without_a_prompt_all_tokens_are_pooled() -> None:
    for name in ("", "document"):
        tensors = preprocessor(UNPOOLED).windows([TEXT], prompt=name).tensors
        np.testing.assert_array_equal(tensors[POOLING_MASK], tensors["attention_mask"])


def test_the_first_window_of_a_split_text_has_the_prompt() -> None:
    texts = [" ".join(WORDS[i % len(WORDS)] for i in range(3 * LENGTH)), TEXT]
    windows = preprocessor(UNPOOLED).windows(texts, "split")
    first = np.r_[True, np.diff(windows.text_of) > 0]
    assert first.sum() == 2
    assert len(first) > 3
    unpooled = windows.tensors["attention_mask"] - windows.tensors[POOLING_MASK]
    np.testing.assert_array_equal(unpooled.sum(1), np.where(first, 3, 0))
