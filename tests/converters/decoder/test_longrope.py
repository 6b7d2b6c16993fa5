"""Models with two sets of rotary factors are exported for as many tokens as the first set is for, and not for more."""

from __future__ import annotations

import json

import pytest
import torch
import transformers

from decoder_checkpoints import save_text_tokenizer
from fastserve_converters.checkpoint import read_checkpoint
from fastserve_converters.decoder.longrope import longrope_notes, short_tokens
from fastserve_converters.decoder.proof import prove_equal
from fastserve_converters.decoder.reading import read_decoder
from fastserve_runtime.errors import UsageError
from random_decoders import COMMON, SHORT_AND_LONG, random_decoder, random_tokens


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"rope_parameters": {"rope_type": "longrope", "original_max_position_embeddings": 64}}, 64),
        ({"rope_scaling": {"type": "su"}, "original_max_position_embeddings": 4096}, 4096),
        ({"rope_scaling": {"type": "longrope"}, "max_position_embeddings": 512}, 512),
        ({"rope_scaling": {"type": "yarn"}, "original_max_position_embeddings": 64, "model_type": "phi3"}, 64),
        ({"rope_scaling": {"type": "yarn"}, "original_max_position_embeddings": 64, "model_type": "llama"}, None),
        ({"rope_parameters": {"rope_type": "default"}}, None),
        ({"rope_scaling": None}, None),
        ({}, None),
    ],
)
def test_up_to_how_many_tokens_the_short_factors_hold(config, expected) -> None:
    assert short_tokens(config) == expected


@pytest.fixture
def phi_3(tmp_path):
    config = transformers.Phi3Config(
        **COMMON, rope_parameters=SHORT_AND_LONG, original_max_position_embeddings=64, partial_rotary_factor=1.0
    )
    random_decoder(config).save_pretrained(tmp_path / "phi-3")
    save_text_tokenizer(tmp_path / "phi-3")
    return tmp_path / "phi-3"


def test_a_context_for_the_long_factors_is_refused_by_their_name(phi_3) -> None:
    checkpoint = read_checkpoint(phi_3)
    assert checkpoint.most_tokens == 64
    checkpoint.check_length(64)
    with pytest.raises(UsageError, match=r"longrope, .* more than 64 tokens, .* Ask for --context 64 or less"):
        checkpoint.check_length(65)
    (note,) = checkpoint.notes
    assert "up to 64 tokens; the long ones, for up to 128, are not supported" in note
    assert longrope_notes({**json.loads((phi_3 / "config.json").read_text()), "max_position_embeddings": 64}) == ()


def test_up_to_there_the_form_computes_what_transformers_does_and_not_beyond() -> None:
    config = transformers.Phi3Config(**COMMON, rope_parameters=SHORT_AND_LONG, original_max_position_embeddings=64)
    model = random_decoder(config)
    form = read_decoder(model, context=64)
    assert prove_equal(form, model, [random_tokens(64), random_tokens(7), torch.arange(40)[None]]) < 1e-5
    plain = transformers.LlamaConfig(**{**COMMON, "rope_parameters": SHORT_AND_LONG})
    llama = random_decoder(plain)
    assert prove_equal(read_decoder(llama, context=64), llama, [random_tokens(64)]) < 1e-5
