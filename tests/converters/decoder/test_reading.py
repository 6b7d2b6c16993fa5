"""Decoders of every class are read into one form that computes the same."""

from __future__ import annotations

import pytest
import torch
import transformers

from fastserve_converters.decoder.form import RmsNorm, whole_logits
from fastserve_converters.decoder.proof import prove_equal
from fastserve_converters.decoder.reading import read_decoder
from fastserve_runtime.errors import EnvironmentFailure, UsageError

COMMON = {
    "vocab_size": 256,
    "hidden_size": 64,
    "num_hidden_layers": 7,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LONG_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(**COMMON),
    "llama-tied-biased": lambda: transformers.LlamaConfig(**COMMON, tie_word_embeddings=True, attention_bias=True),
    "llama-3-positions": lambda: transformers.LlamaConfig(**COMMON, rope_parameters=LONG_ROPE),
    "mistral": lambda: transformers.MistralConfig(**COMMON, sliding_window=8),
    "qwen-2": lambda: transformers.Qwen2Config(**COMMON),
    "qwen-2-windows": lambda: transformers.Qwen2Config(
        **COMMON, use_sliding_window=True, sliding_window=8, max_window_layers=3
    ),
    "qwen-3": lambda: transformers.Qwen3Config(**COMMON),
    "gemma": lambda: transformers.GemmaConfig(**COMMON),
    "gemma-2": lambda: transformers.Gemma2Config(**COMMON, sliding_window=8, query_pre_attn_scalar=24),
    "gemma-3": lambda: transformers.Gemma3TextConfig(**COMMON, sliding_window=8, query_pre_attn_scalar=24),
    "gpt-2": lambda: transformers.GPT2Config(
        vocab_size=256, n_embd=64, n_layer=3, n_head=4, n_positions=128, bos_token_id=1, eos_token_id=2
    ),
}


def made(config):
    """A random model; its norms and biases are no ones and zeros, which would hide mistakes."""
    torch.manual_seed(0)
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model


def sequence(count):
    return torch.randint(0, 256, (1, count), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", CONFIGS)
def test_the_form_computes_what_the_model_does(name) -> None:
    model = made(CONFIGS[name]())
    form = read_decoder(model, context=48)
    assert prove_equal(form, model, [sequence(40), sequence(1)]) < 1e-5


def test_weights_are_shared_with_the_model_and_between_table_and_head() -> None:
    model = made(CONFIGS["llama-tied-biased"]())
    form = read_decoder(model, context=48)
    assert form.is_tied
    assert form.embedding.weight is model.get_input_embeddings().weight
    assert not read_decoder(made(CONFIGS["llama"]()), context=48).is_tied


def test_windows_caps_and_tables_are_told_by_layer() -> None:
    gemma_2 = read_decoder(made(CONFIGS["gemma-2"]()), context=48)
    assert {s.window for s in gemma_2.settings} == {8, None}
    assert {s.softcap for s in gemma_2.settings} == {50.0}
    assert gemma_2.softcap == 30.0
    assert gemma_2.settings[0].scale == pytest.approx(24**-0.5)
    gemma_3 = read_decoder(made(CONFIGS["gemma-3"]()), context=48)
    assert {(s.window, s.rotary) for s in gemma_3.settings} == {(8, 1), (None, 0)}
    assert not torch.equal(gemma_3.rotary(0)[0], gemma_3.rotary(1)[0])
    assert {s.rotary for s in read_decoder(made(CONFIGS["gpt-2"]()), context=48).settings} == {None}


def test_tables_end_with_the_context() -> None:
    form = read_decoder(made(CONFIGS["llama"]()), context=20)
    cosine, sine = form.rotary(0)
    assert cosine.shape == sine.shape == (20, 8)
    assert torch.equal(cosine[0], torch.ones(8))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (lambda: transformers.Phi3Config(**COMMON), "attention 'Phi3Attention' follows no known rule"),
        (lambda: transformers.Olmo2Config(**COMMON), "norms .* follow no known order"),
        (lambda: transformers.LlamaConfig(**COMMON, hidden_act="tanh"), "activation 'Tanh' is not supported"),
    ],
)
def test_what_follows_no_rule_is_named(config, message) -> None:
    with pytest.raises(UsageError, match=message):
        read_decoder(made(config()), context=48)


def test_an_encoder_is_no_decoder() -> None:
    config = transformers.BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    with pytest.raises(UsageError):
        read_decoder(transformers.BertModel(config), context=16)


def test_a_form_that_computes_something_else_is_found_out() -> None:
    model = made(CONFIGS["llama"]())
    form = read_decoder(model, context=48)
    norm = form.blocks[2].feed_forward_norm
    assert isinstance(norm, RmsNorm)
    with torch.no_grad():
        norm.weight[3] *= 1.05
    with pytest.raises(EnvironmentFailure, match="no rule knows"):
        prove_equal(form, model, [sequence(40)])
    with torch.no_grad():
        norm.weight[3] = torch.nan
    with pytest.raises(EnvironmentFailure):
        prove_equal(form, model, [sequence(40)])


def test_later_tokens_change_nothing_before_them() -> None:
    form = read_decoder(made(CONFIGS["gemma-3"]()), context=48)
    tokens = sequence(30)
    with torch.no_grad():
        assert torch.allclose(whole_logits(form, tokens)[:20], whole_logits(form, tokens[:, :20]), atol=1e-5)
