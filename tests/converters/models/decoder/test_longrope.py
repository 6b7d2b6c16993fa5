"""Models with two sets of rotary factors are exported with the set that their context takes."""

from __future__ import annotations

import json

import pytest
import torch
import transformers

from decoder_checkpoints import VOCABULARY, save_text_tokenizer
from fastserve_converters.checkpoints.longrope import fix_long_factors, longrope_notes, short_tokens, takes_long_factors
from fastserve_converters.checkpoints.model_loading import load_model
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.models.decoder.proof import prove_equal
from fastserve_converters.models.decoder.reading import read_decoder
from fastserve_converters.worker.jobs import Jobs
from fastserve_runtime.errors import EnvironmentFailure, UsageError
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
        **{**COMMON, "vocab_size": VOCABULARY},
        rope_parameters=SHORT_AND_LONG,
        original_max_position_embeddings=64,
        partial_rotary_factor=1.0,
    )
    random_decoder(config).save_pretrained(tmp_path / "phi-3")
    save_text_tokenizer(tmp_path / "phi-3")
    return tmp_path / "phi-3"


def test_a_context_is_that_of_the_short_factors_unless_more_is_asked_for(phi_3) -> None:
    checkpoint = read_checkpoint(phi_3)
    assert (checkpoint.max_tokens, checkpoint.usual_tokens) == (128, 64)
    checkpoint.check_length(128)
    config = json.loads((phi_3 / "config.json").read_text())
    assert [takes_long_factors(config, context) for context in (64, 65)] == [False, True]
    (short,), (long,) = longrope_notes(config, 64), longrope_notes(config, 128)
    assert "a context of 64 tokens it is exported with its short factors, as they are for texts of up to 64" in short
    assert "a context of 128 tokens it is exported with its long factors, for texts of any length" in long
    assert longrope_notes({**config, "max_position_embeddings": 64}, 64) == ()


def test_beyond_the_form_has_the_factors_that_transformers_takes_for_longer_texts(phi_3) -> None:
    """What it computes of a long text is what the untouched model does; of a short one, what the fixed model does."""
    checkpoint = read_checkpoint(phi_3)
    untouched, fixed = load_model(checkpoint), load_model(checkpoint)
    fix_long_factors(fixed, checkpoint.config)
    form = read_decoder(fixed, context=128)
    assert prove_equal(form, untouched, [random_tokens(65), random_tokens(128)]) < 1e-5
    assert prove_equal(form, fixed, [random_tokens(7), random_tokens(64), random_tokens(100)]) < 1e-5
    with pytest.raises(EnvironmentFailure, match="exportable model differs"):
        prove_equal(form, untouched, [random_tokens(40)])


def test_factors_that_cannot_be_fixed_are_refused_by_their_name(phi_3) -> None:
    checkpoint = read_checkpoint(phi_3)
    model = load_model(checkpoint)
    model.model.rotary_emb.rope_type = "another"
    with pytest.raises(UsageError, match=r"longrope factors for more than 64 tokens .* Export it for --context 64"):
        fix_long_factors(model, checkpoint.config)


def test_jobs_take_the_factors_of_their_context(phi_3, tmp_path) -> None:
    source = {"path": str(phi_3), "task": "text-generation", "allow_pickle": False, "trust_remote_code": False}
    for length, word in ((64, "short"), (128, "long")):
        jobs = Jobs()
        out = tmp_path / word
        request = {"source": source | {"length": length}, "data": [], "text_column": "text", "label_column": "label"}
        described = jobs.run({"job": "reference", "out": str(out), "seed": 0, **request})
        assert any(f"with its {word} factors" in note for note in described["notes"])
        proven = jobs.run({"job": "program", "out": str(tmp_path / "p"), "reference": str(out), **request})
        assert proven["largest_difference"] < 1e-3


def test_up_to_there_the_form_computes_what_transformers_does_and_not_beyond() -> None:
    config = transformers.Phi3Config(**COMMON, rope_parameters=SHORT_AND_LONG, original_max_position_embeddings=64)
    model = random_decoder(config)
    form = read_decoder(model, context=64)
    assert prove_equal(form, model, [random_tokens(64), random_tokens(7), torch.arange(40)[None]]) < 1e-5
    plain = transformers.LlamaConfig(**{**COMMON, "rope_parameters": SHORT_AND_LONG})
    llama = random_decoder(plain)
    assert prove_equal(read_decoder(llama, context=64), llama, [random_tokens(64)]) < 1e-5
