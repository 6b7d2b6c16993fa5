"""Lower case in front of a tokenizer's own normalization."""

from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer, models, normalizers
from transformers import PreTrainedTokenizerFast

from fastserve_converters.checkpoints.lower_case import with_lower_case


def fast(normalizer) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "hot": 1, "HOT": 2}, unk_token="[UNK]"))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


@pytest.mark.parametrize(
    "normalizer", [None, normalizers.NFC(), normalizers.Sequence([normalizers.NFC(), normalizers.Strip()])]
)
def test_texts_are_made_lower_case_before_anything_else(normalizer) -> None:
    assert fast(normalizer)("HOT")["input_ids"] == [2]
    lower = with_lower_case(fast(normalizer))
    assert lower("HOT")["input_ids"] == [1]
    steps = json.loads(lower.backend_tokenizer.to_str())["normalizer"]["normalizers"]
    assert steps[0] == {"type": "Lowercase"}


def test_a_tokenizer_that_does_so_already_stays_as_it_is() -> None:
    before = fast(normalizers.Lowercase())
    written = before.backend_tokenizer.to_str()
    assert with_lower_case(before).backend_tokenizer.to_str() == written
