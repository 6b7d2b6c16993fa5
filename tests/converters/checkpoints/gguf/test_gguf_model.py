"""Models of GGUF files are those that were written into them."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch

from fastserve_converters.checkpoints.gguf.description import read_gguf_description
from fastserve_converters.checkpoints.gguf.model import load_gguf_model
from fastserve_converters.models.decoder.form import whole_logits
from fastserve_converters.models.decoder.proof import prove_equal
from fastserve_converters.models.decoder.reading import read_decoder
from fastserve_runtime.errors import UsageError
from gguf_writing import ARCHITECTURES, Kind, gguf_model, logits, write_gguf
from random_decoders import random_tokens

TOKENS = random_tokens(24)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_model_comes_back_as_it_was(name, tmp_path) -> None:
    model = gguf_model(name)
    file = write_gguf(tmp_path / "model.gguf", model, ARCHITECTURES[name])
    loaded = load_gguf_model(file)
    assert not loaded.training
    assert loaded.config._attn_implementation == "eager"
    for key, value in model.state_dict().items():
        # Gemma's norms were offset by one and back.
        torch.testing.assert_close(loaded.state_dict()[key], value, rtol=0, atol=2e-7 if "gemma" in name else 0)
    np.testing.assert_allclose(logits(loaded, TOKENS), logits(model, TOKENS), atol=2e-5)
    prove_equal(read_decoder(loaded, 48), model, [TOKENS])
    config = read_gguf_description(file).config
    assert config["architectures"] == [type(model).__name__]
    assert config["model_type"] == model.config.model_type
    assert config["max_position_embeddings"] == model.config.max_position_embeddings
    assert config["tie_word_embeddings"] == model.config.tie_word_embeddings
    assert (config["bos_token_id"], config["eos_token_id"]) == (1, 2)


@pytest.mark.parametrize("kind", [Kind.F16, Kind.BF16, Kind.Q4_0, Kind.Q5_1, Kind.Q8_0])
def test_other_types_are_dequantized(kind, tmp_path) -> None:
    model = gguf_model("llama")
    loaded = load_gguf_model(write_gguf(tmp_path / "model.gguf", model, "llama", lambda _: kind))
    down = model.model.layers[1].mlp.down_proj.weight.detach().numpy()
    expected = gguf.quants.dequantize(gguf.quants.quantize(down, kind), kind)
    np.testing.assert_array_equal(loaded.model.layers[1].mlp.down_proj.weight.detach().numpy(), expected)


def test_factors_of_positions_are_divided_by(tmp_path) -> None:
    """Llama 3.1 and later stretch some frequencies; the file has the divisors as a tensor."""
    stretched = gguf_model("llama-3-positions")
    rotary = stretched.model.rotary_emb.inv_freq
    plain = 1 / 10000.0 ** (torch.arange(0, 16, 2) / 16)
    factors = (plain / rotary).numpy().astype(np.float32)
    assert factors.max() > 2
    file = write_gguf(tmp_path / "model.gguf", stretched, "llama", extra={"rope_freqs.weight": factors})
    loaded = load_gguf_model(file)
    np.testing.assert_allclose(logits(loaded, TOKENS), logits(stretched, TOKENS), atol=1e-4)
    form = read_decoder(loaded, 48)
    with torch.no_grad():
        np.testing.assert_allclose(whole_logits(form, TOKENS), logits(stretched, TOKENS), atol=1e-4)
    wrong = write_gguf(tmp_path / "wrong.gguf", stretched, "llama", extra={"rope_freqs.weight": factors[:3]})
    with pytest.raises(UsageError, match="rope_freqs"):
        load_gguf_model(wrong)


def test_positions_are_stretched_linearly(tmp_path) -> None:
    model = gguf_model("llama")
    scaling = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    loaded = load_gguf_model(write_gguf(tmp_path / "model.gguf", model, "llama", more=scaling))
    torch.testing.assert_close(loaded.model.rotary_emb.inv_freq * 4, model.model.rotary_emb.inv_freq)


@pytest.mark.parametrize(
    ("more", "extra", "problem"),
    [
        ({"llama.embedding_length": 32, "llama.attention.key_length": 16}, {}, "shape"),
        ({"llama.attention.head_count": 8}, {}, "rows"),
        ({"llama.attention.head_count_kv": 1}, {}, "rows"),
        ({}, {"blk.0.attn_sinks.weight": np.ones(4, np.float32)}, "would not use"),
        ({}, {"blk.0.ffn_up.bias": np.ones(96, np.float32)}, "lacks the tensor"),
        ({}, {"blk.0.attn_q.bias": np.full(64, np.nan, np.float32)}, "lacks|finite"),
    ],
)
def test_a_file_that_does_not_fit_its_model_is_refused(more, extra, problem, tmp_path) -> None:
    file = write_gguf(tmp_path / "model.gguf", gguf_model("llama"), "llama", more=more, extra=extra)
    with pytest.raises(UsageError, match=problem):
        load_gguf_model(file)
