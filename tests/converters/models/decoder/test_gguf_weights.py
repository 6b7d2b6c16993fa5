"""Integers of GGUF files are kept to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from fastserve_converters.checkpoints.gguf.description import read_gguf_description
from fastserve_converters.checkpoints.gguf.model import load_gguf_model
from fastserve_converters.models.decoder.gguf_weights import gguf_weights
from fastserve_converters.models.decoder.reading import read_decoder
from gguf_writing import ARCHITECTURES, Kind, gguf_model, write_gguf


def loaded(tmp_path, name, kinds):
    file = write_gguf(tmp_path / "model.gguf", gguf_model(name), ARCHITECTURES[name], kinds)
    return file, read_decoder(load_gguf_model(file), 32)


@pytest.mark.parametrize("name", ["llama", "llama-tied-biased", "qwen-3", "gemma-2", "gpt-2"])
@pytest.mark.parametrize("kind", [Kind.Q4_0, Kind.Q4_1, Kind.Q8_0])
def test_every_layer_keeps_its_quantized_weights(name, kind, tmp_path) -> None:
    file, form = loaded(tmp_path, name, lambda _: kind)
    assert read_gguf_description(file).has_quantized_weights
    found = gguf_weights(file, form)
    parts = ["attention.qkv", "attention.output", "feed_forward.up", "feed_forward.down"]
    parts += [] if name == "gpt-2" else ["feed_forward.gate"]
    layers = {f"blocks.{i}.{part}" for i in range(len(form.layers)) for part in parts}
    assert set(found) == layers | {"embedding"} | (set() if form.is_tied else {"head"})
    for layer, weight in found.items():
        np.testing.assert_array_equal(weight.dequantized(), form.get_submodule(layer).weight.detach().numpy())
        assert weight.values.dtype == np.int8
        assert np.array_equal(weight.scale.astype(np.float16), weight.scale)
        assert weight.scheme.bits == (8 if kind == Kind.Q8_0 else 4)
        assert (weight.minimum is not None) == weight.scheme.minimum == (kind == Kind.Q4_1)


def test_layers_of_other_or_of_several_types_are_left_out(tmp_path) -> None:
    kinds = {
        "blk.0.attn_v.weight": Kind.Q8_0,
        "blk.1.ffn_down.weight": Kind.Q5_0,
        "blk.2.ffn_up.weight": Kind.F16,
        "blk.3.ffn_up.weight": Kind.Q8_0,
    }
    file, form = loaded(tmp_path, "llama", lambda name: kinds.get(name, Kind.Q4_0))
    found = gguf_weights(file, form)
    assert {"blocks.0.attention.qkv", "blocks.1.feed_forward.down", "blocks.2.feed_forward.up"}.isdisjoint(found)
    assert found["blocks.3.feed_forward.up"].scheme.bits == 8
    assert found["blocks.3.feed_forward.gate"].scheme.bits == 4
    assert len(found) == 5 * 7 + 2 - 3


def test_a_layer_that_was_changed_is_left_out(tmp_path) -> None:
    file, form = loaded(tmp_path, "llama", lambda _: Kind.Q4_1)
    weight = form.get_submodule("blocks.2.feed_forward.down").weight.data
    weight[3, 5] = float(np.nextafter(np.float32(weight[3, 5]), np.float32(9)))
    form.get_submodule("head").weight = form.embedding.weight
    found = gguf_weights(file, form)
    assert "blocks.2.feed_forward.down" not in found
    assert "blocks.3.feed_forward.down" in found
    assert "head" not in found


def test_files_without_quantized_weights_have_none(tmp_path) -> None:
    file, form = loaded(tmp_path, "qwen-2", lambda _: Kind.Q5_1)
    assert not read_gguf_description(file).has_quantized_weights
    assert gguf_weights(file, form) == {}
