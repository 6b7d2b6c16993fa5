"""Model families and how they count positions."""

from __future__ import annotations

import pytest

from fastserve_converters.families import FAMILIES, family_of
from fastserve_runtime.errors import UsageError


@pytest.mark.parametrize("model_type", ["bert", "albert", "distilbert"])
def test_positions_are_counted_from_zero(model_type: str) -> None:
    assert family_of(model_type).first_position({"pad_token_id": 3}) == 0


@pytest.mark.parametrize("model_type", ["roberta", "xlm-roberta", "camembert"])
@pytest.mark.parametrize(("config", "first"), [({"pad_token_id": 1}, 2), ({"pad_token_id": 0}, 1), ({}, 2)])
def test_roberta_counts_positions_from_behind_the_padding_index(model_type: str, config: dict, first: int) -> None:
    assert family_of(model_type).first_position(config) == first


def test_an_unsupported_family_names_those_that_are_supported() -> None:
    with pytest.raises(UsageError, match="'gpt2' is not supported") as failure:
        family_of("gpt2")
    assert all(name in failure.value.remedy for name in FAMILIES)


def test_families_are_named_as_users_know_them() -> None:
    assert {family_of(t).name for t in FAMILIES} == {"BERT", "ALBERT", "DistilBERT", "RoBERTa"}
