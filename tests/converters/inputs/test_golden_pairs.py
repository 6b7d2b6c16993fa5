"""Goldens of models that take pairs of texts; those of single texts are looked at with the reference."""

from __future__ import annotations

import warnings
from collections import Counter

import pytest

from fastserve_converters.data import Columns, read_samples
from fastserve_converters.inputs._golden_texts import GoldenText, golden_pairs
from fastserve_runtime.preprocessors.text_pairs import TextPairPreprocessor, TextPairSettings
from manifests import VOCABULARY
from pair_bundles import pair_tokenizer_json

SAMPLES = read_samples([], Columns(), None, takes_pairs=True)[:60]


@pytest.mark.parametrize("length", [12, 48])
def test_goldens_of_pairs_fill_the_length_and_go_beyond_it_on_both_sides(length: int) -> None:
    settings = TextPairSettings(length, VOCABULARY["[PAD]"], "[PAD]", token_types=True)
    preprocessor = TextPairPreprocessor(pair_tokenizer_json(), settings)
    goldens = golden_pairs(SAMPLES, preprocessor)
    kinds = Counter(g.kind for g in goldens)
    assert kinds == {"short": 2, "padded": 3, "full": 1, "non-latin": 4, "empty": 3, "extreme": 2}
    assert all(isinstance(g.content, tuple) for g in goldens)
    (full,) = [g for g in goldens if g.kind == "full"]
    assert preprocessor.count_tokens(full.content) == length
    assert max(preprocessor.count_tokens(g.content) for g in goldens if g.kind == "extreme") > 2 * length
    assert {g.kind for g in goldens if not g.realistic} == {"empty", "extreme"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        types = preprocessor([g.content for g in goldens])["token_type_ids"]
    assert types.shape == (15, length)
    assert types.any(axis=1).all()


def test_a_document_has_a_second_text_only_where_there_is_one() -> None:
    assert "pair" not in GoldenText("a", "short", realistic=True).as_document()
    assert GoldenText("a", "short", realistic=True, pair="").as_document()["pair"] == ""
