"""GPTQ gives layers' outputs back better than rounding to nearest, and leaves the model as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastserve_converters.models.layer_groups import layer_groups
from fastserve_converters.precisions import WeightScheme
from fastserve_converters.quantization.gptq import Rounder, round_layer, second_moments
from fastserve_converters.quantization.weights import quantize_nearest
from fastserve_runtime.errors import EnvironmentFailure

INT4 = WeightScheme(4, 16, symmetric=False)


def test_a_layer_on_correlated_inputs_gives_its_output_back_better_than_nearest() -> None:
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(400, 12)) @ generator.normal(size=(12, 64))
    weight = generator.normal(size=(24, 64)).astype(np.float32)
    hessian = inputs.T @ inputs / len(inputs)
    truth = inputs @ weight.T
    errors = [
        np.square(inputs @ found.dequantized().T - truth).sum()
        for found in (round_layer(weight, hessian, INT4), quantize_nearest(weight, INT4))
    ]
    assert errors[0] < errors[1] / 3


def test_inputs_without_correlation_gain_by_scales_alone() -> None:
    weight = np.random.default_rng(0).normal(size=(6, 32)).astype(np.float32)
    found, nearest = round_layer(weight, np.eye(32), INT4), quantize_nearest(weight, INT4)
    steps = np.repeat(found.scale, 16, axis=1)
    # Without correlation each number is rounded by itself, to the nearest on its grid.
    inside = (found.values > -8) & (found.values < 7)
    assert (np.abs(found.dequantized() - weight)[inside] <= 0.5001 * steps[inside]).all()
    errors = [np.square(q.dequantized() - weight).sum() for q in (found, nearest)]
    assert 0.5 * errors[1] < errors[0] <= errors[1]


def test_a_column_that_is_never_used_does_no_harm() -> None:
    hessian = np.diag([1.0] * 15 + [0.0])
    found = round_layer(np.ones((2, 16), np.float32), hessian, INT4)
    assert np.isfinite(found.dequantized()).all()


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_the_model_is_put_back_and_loses_less_than_with_nearest(encoder, samples, family: str) -> None:
    part = encoder(family)
    model = part.module
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layers = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m.in_features % 16 == 0]
    found = Rounder(part, samples).round(dict.fromkeys(layers, INT4))
    assert found.keys() == set(layers)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    hessians = second_moments(part, 0, layers, part.first_states(samples))
    better = 0
    for name in layers:
        weight = model.get_submodule(name).weight.detach().numpy()
        loss = [
            float(np.einsum("ri,ij,rj->", e, hessians[name], e))
            for e in (found[name].dequantized() - weight, quantize_nearest(weight, INT4).dequantized() - weight)
        ]
        better += loss[0] < loss[1]
    assert better == len(layers)


def test_layers_of_one_input_are_found(encoder, samples) -> None:
    part = encoder("bert")
    alone, *groups = [group.layers for group in layer_groups(part, samples)]
    assert alone == ("model.embeddings.word_embeddings",)
    assert [len(g) for g in groups] == [3, 1, 1, 1] * 2
    assert [n.rpartition(".")[2] for n in groups[0]] == ["query", "key", "value"]


def test_padding_has_no_part_in_the_second_moments(encoder, samples) -> None:
    part = encoder("bert")
    layer = "model.encoder.layer.0.attention.self.query"
    changed = dict(samples, input_ids=np.where(samples["attention_mask"] > 0, samples["input_ids"], 7))
    first, second = (second_moments(part, 0, [layer], part.first_states(s))[layer] for s in (samples, changed))
    assert np.allclose(first, second)
    early = second_moments(part, 0, [layer], part.first_states(samples), stops_behind=True)[layer]
    assert np.array_equal(first, early)


def test_an_input_that_is_not_finite_is_located(encoder, samples) -> None:
    part = encoder("bert")
    model = part.module
    with torch.no_grad():
        model.get_submodule("model.encoder.layer.0.output.dense").bias[3] = float("inf")
    with pytest.raises(EnvironmentFailure, match=r"input of the layer 'model\.encoder\.layer\.1\.attention"):
        Rounder(part, samples).round({"model.encoder.layer.1.attention.self.query": INT4})
