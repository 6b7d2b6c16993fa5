"""Model families and how they count positions."""

from __future__ import annotations

import pytest

from fastserve_converters.checkpoints.families import FAMILIES, family_of
from fastserve_runtime.errors import UsageError


@pytest.mark.parametrize("model_type", ["bert", "albert", "distilbert"])
def test_positions_are_counted_from_zero(model_type: str) -> None:
    assert family_of(model_type).first_position({"pad_token_id": 3}) == 0


@pytest.mark.parametrize("model_type", ["roberta", "xlm-roberta", "camembert"])
@pytest.mark.parametrize(("config", "first"), [({"pad_token_id": 1}, 2), ({"pad_token_id": 0}, 1), ({}, 2)])
def test_roberta_counts_positions_from_behind_the_padding_index(model_type: str, config: dict, first: int) -> None:
    assert family_of(model_type).first_position(config) == first


def test_an_unsupported_family_names_those_that_are_supported() -> None:
    with pytest.raises(UsageError, match="'mamba' is not supported") as failure:
        family_of("mamba")
    assert all(name in failure.value.remedy for name in FAMILIES)


def test_families_are_named_as_users_know_them() -> None:
    encoders, decoders = ({f.name for f in FAMILIES.values() if f.generates is g} for g in (False, True))
    assert encoders == {"BERT", "ALBERT", "DistilBERT", "RoBERTa"}
    assert decoders == {"Llama", "Mistral", "Qwen2", "Qwen3", "Gemma", "Gemma 2", "Gemma 3", "GPT-2", "Phi-3"}


@pytest.mark.parametrize("model_type", sorted(t for t, f in FAMILIES.items() if f.generates))
def test_decoders_count_positions_from_zero_and_are_known_to_transformers(model_type: str) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    assert family_of(model_type).first_position({"pad_token_id": 3}) == 0
    assert model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
