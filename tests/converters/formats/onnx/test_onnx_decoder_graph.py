"""Decoders written as ONNX graphs compute the same in ONNX Runtime, chunk by chunk and token by token."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from fastserve_converters.formats.onnx.decoder_graph import (
    past_name,
    present_name,
    write_graph,
)
from fastserve_converters.formats.onnx.head_layout import HeadLayout, head_layout
from fastserve_converters.models.cached_part import CachedPart
from fastserve_converters.models.decoder.form import whole_logits
from fastserve_converters.models.decoder.reading import read_decoder
from fastserve_converters.precisions import WeightScheme
from fastserve_converters.quantization.layers import quantized_weights
from fastserve_runtime.generation.shared_cache import ATTENTION_MASK, INPUT_IDS, LOGITS
from random_decoders import CONFIGS, HEAD_SIZES, heads_of, random_decoder, random_tokens

CONTEXT = 48


class SharedBuffers:
    """Runs a graph with one buffer for past and present of every layer, as an application does."""

    def __init__(self, form, weights=None) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        self.content = ir.to_proto(write_graph(form, weights)).SerializeToString()
        self.session = onnxruntime.InferenceSession(self.content, options, providers=["CPUExecutionProvider"])
        self.position = 0
        self.cache = {
            (layer, kind): np.zeros((1, s.key_value_heads, CONTEXT, head_layout(form, layer).padded_size), np.float32)
            for layer, s in enumerate(form.settings)
            for kind in ("key", "value")
        }

    def feed(self, tokens):
        self.position += tokens.shape[1]
        binding = self.session.io_binding()
        for (layer, kind), buffer in self.cache.items():
            binding.bind_input(past_name(layer, kind), "cpu", 0, np.float32, buffer.shape, buffer.ctypes.data)
            binding.bind_output(present_name(layer, kind), "cpu", 0, np.float32, buffer.shape, buffer.ctypes.data)
        binding.bind_cpu_input(INPUT_IDS, tokens.numpy())
        binding.bind_cpu_input(ATTENTION_MASK, np.ones((1, self.position), np.int64))
        binding.bind_output(LOGITS)
        self.session.run_with_iobinding(binding)
        return binding.get_outputs()[-1].numpy()


@pytest.mark.parametrize("name", CONFIGS)
def test_chunks_and_single_tokens_give_what_the_whole_sequence_gives(name) -> None:
    form = read_decoder(random_decoder(CONFIGS[name]()), CONTEXT)
    tokens = random_tokens(30)
    with torch.no_grad():
        expected = whole_logits(form, tokens).numpy()
    runner = SharedBuffers(form)
    for chunk in tokens.split([7, 1, 1, 12, 1, 8], dim=1):
        logits = runner.feed(chunk)
        assert logits.shape == (1, 1, 256)
        np.testing.assert_allclose(logits[0, 0], expected[runner.position - 1], atol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "qwen-3", "gpt-2"])
@pytest.mark.parametrize("size", HEAD_SIZES)
def test_heads_of_any_size_give_what_transformers_gives(size, kind) -> None:
    model = random_decoder(heads_of(size, kind))
    form = read_decoder(model, CONTEXT)
    tokens = random_tokens(30)
    with torch.no_grad():
        expected = model(input_ids=tokens).logits[0].numpy()
    runner = SharedBuffers(form)
    for chunk in tokens.split([7, 1, 12, 1, 9], dim=1):
        logits = runner.feed(chunk)[0, 0]
        np.testing.assert_allclose(logits, expected[runner.position - 1], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(("size", "half"), [(32, 4), (32, 2), (48, 20), (64, 9), (10, 3)])
def test_heads_of_which_a_part_is_turned_may_have_any_sizes(size, half) -> None:
    form = read_decoder(random_decoder(heads_of(size)), CONTEXT)
    form.cosine_0, form.sine_0 = (table[:, :half].contiguous() for table in form.rotary(0))
    tokens = random_tokens(20)
    with torch.no_grad():
        expected = whole_logits(form, tokens).numpy()
    runner = SharedBuffers(form)
    for chunk in tokens.split([9, 1, 10], dim=1):
        np.testing.assert_allclose(runner.feed(chunk)[0, 0], expected[runner.position - 1], atol=1e-5)


@pytest.mark.parametrize(
    ("size", "half", "padded"), [(64, 32, 64), (80, 16, 80), (100, 50, 112), (4, 2, 16), (20, 0, 24), (64, 0, 64)]
)
def test_only_heads_that_the_operator_refuses_are_padded(size, half, padded) -> None:
    layout = HeadLayout(size, half)
    assert layout.padded_size == padded
    assert layout.is_padded == (padded != size)
    np.testing.assert_array_equal(layout.selection() @ layout.selection().T, np.eye(size))


def test_earlier_tokens_are_read_from_the_cache() -> None:
    form = read_decoder(random_decoder(CONFIGS["llama"]()), CONTEXT)
    tokens = random_tokens(12)
    runner = SharedBuffers(form)
    runner.feed(tokens[:, :8])
    runner.cache[3, "value"][:, :, 5] += 1
    spoilt = runner.feed(tokens[:, 8:])
    with torch.no_grad():
        assert np.abs(spoilt[0, 0] - whole_logits(form, tokens)[-1].numpy()).max() > 1e-3


@pytest.mark.parametrize("name", ["llama-tied-biased", "gemma-2", "gpt-2"])
@pytest.mark.parametrize("scheme", [WeightScheme(8, 32, scale="float16"), WeightScheme(4, 16, symmetric=False)])
def test_quantized_weights_are_multiplied_as_they_say(name, scheme) -> None:
    form = read_decoder(random_decoder(CONFIGS[name]()), CONTEXT)
    tokens = random_tokens(30)
    part = CachedPart(form)
    weights = quantized_weights(part, dict.fromkeys(part.layers, scheme))
    with torch.no_grad():
        original = whole_logits(form, tokens)[-1].numpy()
    runner = SharedBuffers(form, weights)
    actual = [runner.feed(chunk) for chunk in tokens.split([20, 1, 9], dim=1)][-1][0, 0]
    for layer, weight in weights.items():
        form.get_submodule(layer).weight = torch.nn.Parameter(torch.from_numpy(weight.dequantized()))
    if form.embedding.weight is not form.head.weight and "head" not in weights:
        form.head.weight = form.embedding.weight
    with torch.no_grad():
        fake_quant_reference = whole_logits(form, tokens)[-1].numpy()
    # What is left are activations in 8 bits.
    assert (
        np.square(actual - fake_quant_reference).sum()
        < 0.2 * np.square(original - fake_quant_reference).sum() + 1e-3 * np.square(fake_quant_reference).sum()
    )


def test_a_tied_embedding_of_quantized_weights_is_stored_once() -> None:
    form = read_decoder(random_decoder(CONFIGS["llama-tied-biased"]()), CONTEXT)
    scheme = WeightScheme(4, 32, symmetric=False, scale="float16")
    weights = quantized_weights(CachedPart(form), {"embedding": scheme})
    without = len(SharedBuffers(form).content)
    table = form.embedding.weight
    assert without - len(SharedBuffers(form, weights).content) > 4 * table.numel() - 0.7 * table.numel() - 2_000


def test_a_tied_embedding_is_stored_once() -> None:
    tied = read_decoder(random_decoder(CONFIGS["llama-tied-biased"]()), CONTEXT)
    parameters = sum(p.numel() for p in tied.parameters())  # each shared one counts once
    assert tied.is_tied
    assert len(SharedBuffers(tied).content) < 4 * parameters + 40_000


def test_the_same_model_gives_the_same_bytes() -> None:
    first, second = (SharedBuffers(read_decoder(random_decoder(CONFIGS["qwen-3"]()), CONTEXT)) for _ in range(2))
    assert first.content == second.content
