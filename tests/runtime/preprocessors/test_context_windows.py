"""Questions with contexts in overlapping windows: the same tokens as Transformers'."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from fastserve_runtime.errors import BundleError, UsageError
from fastserve_runtime.preprocessors.context_windows import ContextSettings, context_tokens, fitting_stride
from fastserve_runtime.preprocessors.text_pairs import TextPairPreprocessor, TextPairSettings
from manifests import WORDS
from pair_bundles import pair_tokenizer_json

LENGTH = 10
texts = st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join)
contexts = st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join)


def preprocessor(stride: int = 2, question: int = 4, **settings) -> TextPairPreprocessor:
    context = ContextSettings(stride, question)
    own = TextPairSettings(LENGTH, 0, "[PAD]", token_types=True, context=context, **settings)
    return TextPairPreprocessor(pair_tokenizer_json(), own)


@given(texts, contexts, st.integers(0, 2))
def test_windows_are_those_of_transformers(question: str, context: str, stride: int) -> None:
    from transformers import PreTrainedTokenizerFast

    reference = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_buffer(pair_tokenizer_json()), pad_token="[PAD]"
    )
    expected = reference(
        [question],
        [context],
        truncation="only_second",
        max_length=LENGTH,
        stride=stride,
        return_overflowing_tokens=True,
        return_token_type_ids=True,
        return_offsets_mapping=True,
        padding="max_length",
    )
    windows = preprocessor(stride).windows([(question, context)], "split")
    assert windows.tensors["input_ids"].tolist() == expected["input_ids"]
    assert windows.tensors["token_type_ids"].tolist() == expected["token_type_ids"]
    assert windows.tensors["attention_mask"].tolist() == expected["attention_mask"]
    tokens = context_tokens(windows.encodings, align_to_words=False)
    for row in range(len(expected["input_ids"])):
        assert [s == 1 for s in expected.sequence_ids(row)] == tokens.is_context[row].tolist()
        own = np.array(expected["offset_mapping"][row])[tokens.is_context[row]]
        assert own.tolist() == tokens.spans[row][tokens.is_context[row]].tolist()


@given(contexts)
def test_a_context_is_whole_in_its_windows(context: str) -> None:
    windows = preprocessor().windows([("a", context)], "split")
    tokens = context_tokens(windows.encodings)
    seen = {tuple(span) for row, own in zip(tokens.spans, tokens.is_context, strict=True) for span in row[own].tolist()}
    assert sorted(context[a:b] for a, b in seen) == sorted(context.split())


def test_cut_at_the_left_windows_go_the_other_way_and_come_in_order() -> None:
    given = [("a", "b c d e f a b c d e f")]
    left = preprocessor(truncation_side="left")
    spans = context_tokens(left.windows(given, "split").encodings).spans
    assert spans.max(axis=(1, 2)).tolist() == sorted(spans.max(axis=(1, 2)).tolist())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept = context_tokens(left.windows(given).encodings)
    assert kept.spans.max() == len(given[0][1])


def test_a_stride_that_leaves_nothing_new_is_halved() -> None:
    assert fitting_stride(ContextSettings(8, 4), 5) == 2
    assert fitting_stride(ContextSettings(4, 4), 5) == 4
    windows = preprocessor(stride=9).windows([("a", " ".join("abcdef" * 5))], "split")
    assert len(windows.text_of) < 15


def test_settings_are_read_back_and_checked() -> None:
    settings = preprocessor().settings
    assert TextPairSettings.from_document(settings.as_document()) == settings
    assert ContextSettings.usual(384, 3) == ContextSettings(128, 64)
    assert ContextSettings.usual(32, 3) == ContextSettings(16, 14)
    for broken in ({"stride": 1}, {"stride": -1, "question_tokens": 4}, {"stride": 1, "question_tokens": "4"}, 3):
        document = settings.as_document() | {"context": broken}
        with pytest.raises(BundleError):
            TextPairSettings.from_document(document)


def test_tokens_are_counted_before_anything_is_cut() -> None:
    assert preprocessor().count_tokens(("a b", " ".join("abcdef" * 3))) == 2 + 18 + 3


def test_pairs_without_contexts_cannot_be_split() -> None:
    plain = TextPairPreprocessor(pair_tokenizer_json(), TextPairSettings(LENGTH, 0, "[PAD]", token_types=True))
    with pytest.raises(UsageError, match="Pairs of texts cannot be split"):
        plain.windows([("a", "b")], "split")
