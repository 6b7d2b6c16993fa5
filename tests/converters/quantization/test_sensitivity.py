"""Layers that matter score higher."""

from __future__ import annotations

import pytest
import torch

from fastserve_converters.models.layer_groups import quantizable_layers
from fastserve_converters.precisions import INT8, Choices, WeightScheme
from fastserve_converters.quantization.evidence import reference_layer_outputs, sqnr_by_layer
from fastserve_converters.quantization.fake_quant import (
    fake_quantized,
    rounded_by_token,
)
from fastserve_converters.quantization.layers import quantized_weights
from fastserve_converters.quantization.sensitivity import sensitivities
from fastserve_runtime.errors import EnvironmentFailure

INT4 = WeightScheme(4, 16)
CHOICES = Choices((None, INT8, INT4), (INT8, INT4))


def test_fewer_bits_lose_more_and_float_nothing(encoder, samples) -> None:
    part = encoder(sentence=True)
    model = part.module
    before = {name: value.clone() for name, value in model.state_dict().items()}
    units = sensitivities(part, CHOICES, "float32", samples)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert sorted(n for u in units for n in u.layers) == sorted(quantizable_layers(model))
    for unit in units:
        losses = [o.loss for o in unit.options]
        assert losses == sorted(losses)
        assert [o.size for o in unit.options] == sorted((o.size for o in unit.options), reverse=True)
        assert (unit.options[0].scheme is None) == (unit.macs > 0)
        assert unit.options[-1].loss > 0


def test_a_layer_without_influence_scores_nothing(encoder, samples) -> None:
    part = encoder(sentence=True)
    model = part.module
    name = "model.encoder.layer.0.output.dense"
    with torch.no_grad():
        model.get_submodule("model.encoder.layer.0.output.LayerNorm").weight[:] = 0
    units = {u.layers: u for u in sensitivities(part, CHOICES, "float32", samples)}
    assert max(o.loss for o in units[(name,)].options) == 0


def test_a_model_that_gives_nan_is_refused(encoder, samples) -> None:
    part = encoder()
    model = part.module
    with torch.no_grad():
        model.get_submodule("model.encoder.layer.1.output.LayerNorm").bias[0] = float("nan")
    with pytest.raises(EnvironmentFailure, match="not finite"):
        sensitivities(part, CHOICES, "float32", samples)


def test_activations_are_rounded_by_token_and_keep_zero() -> None:
    values = torch.tensor([[0.0, 1.0, 2.55], [-1.0, 0.0, 0.004], [0.0, 0.0, 0.0]])
    found = rounded_by_token(values)
    assert torch.allclose(found[0], values[0], atol=0.005)
    assert found[1, 1] == 0
    assert torch.equal(found[2], values[2])


def test_layers_are_compared_one_by_one(encoder, samples) -> None:
    part = encoder()
    model = part.module
    layers = list(quantizable_layers(model))
    expected = reference_layer_outputs(model, layers, samples, min_tokens=2)
    assert all(len(v) == 8 for v in expected.values())
    weights = quantized_weights(part, {layers[3]: INT4})
    with fake_quantized(model, weights, "float32"):
        actual = reference_layer_outputs(model, layers, samples, min_tokens=2)
    found = sqnr_by_layer(expected, actual)
    assert found[layers[0]] == float("inf")
    assert 5 < found[layers[3]] < 40
    assert "elsewhere" not in sqnr_by_layer(expected, {"elsewhere": []})
