"""Decoders of every class are read into one form that computes the same."""

from __future__ import annotations

import pytest
import torch
import transformers

from fastserve_converters.models.decoder.form import RmsNorm, whole_logits
from fastserve_converters.models.decoder.proof import prove_equal
from fastserve_converters.models.decoder.reading import read_decoder
from fastserve_runtime.errors import EnvironmentFailure, UsageError
from random_decoders import COMMON, CONFIGS, random_decoder, random_tokens


@pytest.mark.parametrize("name", CONFIGS)
def test_the_form_computes_what_the_model_does(name) -> None:
    model = random_decoder(CONFIGS[name]())
    form = read_decoder(model, context=48)
    assert prove_equal(form, model, [random_tokens(40), random_tokens(1)]) < 1e-5


def test_weights_are_shared_with_the_model_and_between_table_and_head() -> None:
    model = random_decoder(CONFIGS["llama-tied-biased"]())
    form = read_decoder(model, context=48)
    assert form.is_tied
    assert form.embedding.weight is model.get_input_embeddings().weight
    assert not read_decoder(random_decoder(CONFIGS["llama"]()), context=48).is_tied


def test_windows_caps_and_tables_are_told_by_layer() -> None:
    gemma_2 = read_decoder(random_decoder(CONFIGS["gemma-2"]()), context=48)
    assert {s.window for s in gemma_2.settings} == {8, None}
    assert {s.softcap for s in gemma_2.settings} == {50.0}
    assert gemma_2.softcap == 30.0
    assert gemma_2.settings[0].scale == pytest.approx(24**-0.5)
    gemma_3 = read_decoder(random_decoder(CONFIGS["gemma-3"]()), context=48)
    assert {(s.window, s.rotary) for s in gemma_3.settings} == {(8, 1), (None, 0)}
    assert not torch.equal(gemma_3.rotary(0)[0], gemma_3.rotary(1)[0])
    assert {s.rotary for s in read_decoder(random_decoder(CONFIGS["gpt-2"]()), context=48).settings} == {None}


def test_tables_end_with_the_context() -> None:
    form = read_decoder(random_decoder(CONFIGS["llama"]()), context=20)
    cosine, sine = form.rotary(0)
    assert cosine.shape == sine.shape == (20, 8)
    assert torch.equal(cosine[0], torch.ones(8))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (lambda: transformers.PhiConfig(**COMMON), "layer 'PhiDecoderLayer' has the norms input_layernorm"),
        (lambda: transformers.Olmo2Config(**COMMON), "norms .* follow no known order"),
        (lambda: transformers.LlamaConfig(**COMMON, hidden_act="tanh"), "activation 'Tanh' is not supported"),
    ],
)
def test_what_follows_no_rule_is_named(config, message) -> None:
    with pytest.raises(UsageError, match=message):
        read_decoder(random_decoder(config()), context=48)


def test_an_encoder_is_no_decoder() -> None:
    config = transformers.BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    with pytest.raises(UsageError):
        read_decoder(transformers.BertModel(config), context=16)


def test_a_form_that_computes_something_else_is_found_out() -> None:
    model = random_decoder(CONFIGS["llama"]())
    form = read_decoder(model, context=48)
    norm = form.blocks[2].feed_forward_norm
    assert isinstance(norm, RmsNorm)
    with torch.no_grad():
        norm.weight[3] *= 1.05
    with pytest.raises(EnvironmentFailure, match="differs from the original by") as failure:
        prove_equal(form, model, [random_tokens(40)])
    assert "no rule knows: Llama-" in failure.value.remedy
    with torch.no_grad():
        norm.weight[3] = torch.nan
    with pytest.raises(EnvironmentFailure):
        prove_equal(form, model, [random_tokens(40)])


def test_later_tokens_change_nothing_before_them() -> None:
    form = read_decoder(random_decoder(CONFIGS["gemma-3"]()), context=48)
    tokens = random_tokens(30)
    with torch.no_grad():
        assert torch.allclose(whole_logits(form, tokens)[:20], whole_logits(form, tokens[:, :20]), atol=1e-5)
