"""What each layer of a decoder costs: fewer bits more, unused layers nothing, and the whole about the sum."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastserve_converters.models.cached_part import CachedPart
from fastserve_converters.models.decoder.reading import read_decoder
from fastserve_converters.models.layer_groups import weight_of
from fastserve_converters.precisions import Choices, WeightScheme
from fastserve_converters.quantization.fake_quant import fake_quantized
from fastserve_converters.quantization.sensitivity import sensitivities
from fastserve_converters.quantization.weights import quantize_nearest, stored_bytes
from random_decoders import CONFIGS, random_decoder

INT8, INT4 = WeightScheme(8, 32), WeightScheme(4, 32)
CHOICES = Choices((None, INT8, INT4), (INT8, INT4))
TOKENS = np.random.default_rng(0).integers(0, 256, (4, 20)).astype(np.int32)
SAMPLES = {"input_ids": TOKENS}


def form_of(kind: str):
    config = CONFIGS[kind]()
    config.num_hidden_layers = 2
    return read_decoder(random_decoder(config), 32)


@pytest.mark.parametrize("kind", ["llama", "llama-tied-biased", "gemma-2", "gpt-2"])
def test_fewer_bits_lose_more_and_float_nothing(kind: str) -> None:
    form = form_of(kind)
    before = {name: p.clone() for name, p in form.named_parameters()}
    units = sensitivities(CachedPart(form), CHOICES, "float32", SAMPLES)
    assert all(torch.equal(p, before[name]) for name, p in form.named_parameters())
    linear = {name for name, m in form.named_modules() if isinstance(m, torch.nn.Linear)} - {"head"}
    tables = {"embedding"} if form.is_tied else {"embedding", "head"}
    assert sorted(name for u in units for name in u.layers) == sorted(linear | tables)
    for unit in units:
        schemes = [o.scheme for o in unit.options]
        assert schemes == ([INT8, INT4] if set(unit.layers) <= tables else [None, INT8, INT4])
        losses = {o.scheme: o.loss for o in unit.options}
        assert 0 <= losses[INT8] < losses[INT4]
        assert losses.get(None, 0) == 0
        for option in unit.options:
            shapes = [tuple(weight_of(form, name).shape) for name in unit.layers]
            assert option.size == sum(stored_bytes(shape, option.scheme) for shape in shapes)


@pytest.mark.parametrize("kind", ["llama", "llama-tied-biased"])
def test_a_loss_is_the_divergence_with_that_unit_alone_quantized(kind: str) -> None:
    form = form_of(kind)
    tokens = torch.from_numpy(TOKENS[: CachedPart.max_scored].astype(np.int64))
    with torch.no_grad():
        truth = torch.log_softmax(form(tokens)["logits"], -1)
        for unit in sensitivities(CachedPart(form), CHOICES, "dynamic-int8", SAMPLES):
            names = {*unit.layers, "head"} if form.is_tied and "embedding" in unit.layers else unit.layers
            weights = {name: quantize_nearest(weight_of(form, name).numpy(), INT4) for name in names}
            with fake_quantized(form, weights, "dynamic-int8"):
                found = torch.log_softmax(form(tokens)["logits"], -1)
            expected = float((truth.exp() * (truth - found)).sum(-1).mean())
            assert {o.scheme: o.loss for o in unit.options}[INT4] == pytest.approx(expected, rel=1e-3, abs=1e-7)


def test_layers_of_one_input_are_one_unit_and_a_looked_up_table_multiplies_nothing() -> None:
    units = sensitivities(CachedPart(form_of("llama")), CHOICES, "float32", SAMPLES)
    assert [u.layers for u in units][:2] == [("embedding",), ("head",)]
    assert ("blocks.1.feed_forward.gate", "blocks.1.feed_forward.up") in [u.layers for u in units]
    macs = {u.layers: u.macs for u in units}
    assert macs["embedding",] == 0
    assert macs["head",] == 256 * 64
    assert macs["blocks.1.feed_forward.gate", "blocks.1.feed_forward.up"] == 2 * 64 * 96


def test_a_scheme_that_does_not_fit_is_no_choice() -> None:
    units = sensitivities(
        CachedPart(form_of("llama")), Choices((None, WeightScheme(4, 64)), (INT8,)), "float32", SAMPLES
    )
    options = {name: [o.scheme for o in u.options] for u in units for name in u.layers}
    assert options["blocks.0.feed_forward.down"] == [None]  # 96 columns
    assert options["blocks.0.attention.qkv"] == [None, WeightScheme(4, 64)]


def test_a_layer_without_influence_costs_nothing() -> None:
    form = form_of("llama")
    with torch.no_grad():
        form.layers[0].feed_forward.down.weight[:] = 0
    units = {u.layers: u for u in sensitivities(CachedPart(form), CHOICES, "float32", SAMPLES)}
    unit = units["blocks.0.feed_forward.gate", "blocks.0.feed_forward.up"]
    assert max(o.loss for o in unit.options) < 1e-9
