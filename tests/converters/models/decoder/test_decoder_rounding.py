"""GPTQ stage by stage gives what GPTQ of the whole model gives, better than rounding to nearest, and spoils nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastserve_converters.models.cached_part import CachedPart
from fastserve_converters.models.decoder.form import whole_logits
from fastserve_converters.models.decoder.reading import read_decoder
from fastserve_converters.models.layer_groups import layer_groups, weight_of
from fastserve_converters.models.model import TracedPart
from fastserve_converters.precisions import WeightScheme
from fastserve_converters.quantization import gptq
from fastserve_converters.quantization.fake_quant import fake_quantized
from fastserve_converters.quantization.gptq import Rounder
from fastserve_converters.quantization.weights import quantize_nearest
from fastserve_runtime.bundle.tensor_specs import Signature
from fastserve_runtime.errors import EnvironmentFailure
from random_decoders import CONFIGS, random_decoder

INT4 = WeightScheme(4, 16, symmetric=False)
KINDS = ["llama", "llama-tied-biased", "gemma-2", "gpt-2"]
# Few words in many orders, so that inputs of layers are correlated.
TOKENS = np.random.default_rng(0).choice([3, 5, 8, 13, 21, 34, 55, 89], size=(12, 24)).astype(np.int32)
SAMPLES = {"input_ids": TOKENS}


def form_of(kind: str):
    config = CONFIGS[kind]()
    config.num_hidden_layers = 2
    return read_decoder(random_decoder(config), 32)


def linear_layers(form) -> list[str]:
    return [name for name, kind in CachedPart(form).layers.items() if kind == "linear"]


def distance(form, weights) -> float:
    tokens = torch.from_numpy(TOKENS.astype(np.int64))
    with torch.no_grad():
        truth = torch.log_softmax(form(tokens)["logits"], -1)
        with fake_quantized(form, weights, "float32"):
            found = torch.log_softmax(form(tokens)["logits"], -1)
    return float((truth.exp() * (truth - found)).sum(-1).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_model_says_changes_less_than_with_nearest(kind: str) -> None:
    form = form_of(kind)
    schemes = dict.fromkeys(linear_layers(form), INT4)
    found = Rounder(CachedPart(form), SAMPLES).round(schemes)
    nearest = {name: quantize_nearest(weight_of(form, name).numpy(), INT4) for name in schemes}
    assert found.keys() == schemes.keys()
    assert distance(form, found) < 0.6 * distance(form, nearest)


@pytest.mark.parametrize("kind", KINDS)
def test_the_results_are_nearly_those_of_the_form_as_one_stage(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # It looks at the inputs of several layers in one pass, before those in between are rounded.
    monkeypatch.setattr("fastserve_converters.quantization.gptq._GROUPS_A_PASS", 1)
    form = form_of(kind)
    schemes = dict.fromkeys(linear_layers(form), INT4)
    found = Rounder(CachedPart(form, batch=4), SAMPLES).round(schemes)
    whole = TracedPart(form, {}, Signature((), ()), batch=len(TOKENS))
    generic = Rounder(whole, {**SAMPLES, "attention_mask": np.ones(TOKENS.shape, np.float32)}).round(schemes)
    for name in schemes:
        # Sums in another order may tip a number over to its neighbour, and what follows with it.
        assert np.mean(found[name].values != generic[name].values) < 0.02, name
        np.testing.assert_allclose(found[name].scale, generic[name].scale, rtol=1e-3)


@pytest.mark.parametrize("kind", ["llama", "llama-tied-biased"])
def test_a_head_is_rounded_by_what_it_is_given_whether_it_is_the_table_or_not(kind: str) -> None:
    form = form_of(kind)
    name = "embedding" if form.is_tied else "head"
    (found,) = Rounder(CachedPart(form), SAMPLES).round({name: INT4}).values()
    with torch.no_grad():
        states = form.hidden(
            torch.from_numpy(TOKENS.astype(np.int64)), torch.arange(TOKENS.shape[1]), _attention(form)
        ).reshape(-1, 64)
    weight = weight_of(form, "head").numpy()
    errors = [
        np.square(states.numpy() @ (q.dequantized() - weight).T).sum() for q in (found, quantize_nearest(weight, INT4))
    ]
    assert errors[0] < errors[1] / 2


def _attention(form):
    from fastserve_converters.models.decoder.form import WholeSequence

    return WholeSequence(form)


@pytest.mark.parametrize("kind", ["llama-tied-biased", "gpt-2"])
def test_weights_are_put_back(kind: str) -> None:
    form = form_of(kind)
    before = dict(form.named_parameters())
    values = {name: p.clone() for name, p in before.items()}
    Rounder(CachedPart(form), SAMPLES).round(dict.fromkeys([*linear_layers(form), "embedding"], INT4))
    after = dict(form.named_parameters())
    assert all(after[name] is p and torch.equal(p, values[name]) for name, p in before.items())
    assert form.is_tied


def test_layers_without_a_scheme_stay_as_they_are() -> None:
    form = form_of("llama")
    wanted = ["blocks.1.feed_forward.up", "blocks.0.attention.output"]
    assert Rounder(CachedPart(form), SAMPLES).round(dict.fromkeys(wanted, INT4)).keys() == set(wanted)


@pytest.mark.parametrize(
    ("spoilt", "named"),
    [
        ("blocks.0.attention_norm", "blocks.0.attention.qkv"),
        ("blocks.1.feed_forward_norm", "blocks.1.feed_forward.gate"),
        ("norm", "head"),
    ],
)
def test_the_first_layer_whose_input_is_not_finite_is_named_and_weights_are_put_back(spoilt: str, named: str) -> None:
    form = form_of("llama")
    with torch.no_grad():
        form.get_submodule(spoilt).weight[3] = float("inf")
    before = dict(form.named_parameters())
    with pytest.raises(EnvironmentFailure, match=f"input of the layer '{named}' has values that are not finite"):
        Rounder(CachedPart(form), SAMPLES).round(dict.fromkeys([*linear_layers(form), "head"], INT4))
    assert all(p is before[name] for name, p in form.named_parameters())


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_stages_give_what_the_form_gives(kind: str) -> None:
    part = CachedPart(read_decoder(random_decoder(CONFIGS[kind]()), 32))
    (state,) = part.first_states({"input_ids": TOKENS[:1]})
    with torch.no_grad():
        for stage in part.stages:
            state = stage(state)
        expected = whole_logits(part.module, torch.from_numpy(TOKENS[:1].astype(np.int64)))
    torch.testing.assert_close(state[0], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_grouped_by_what_they_are_given(kind: str) -> None:
    part = CachedPart(form_of(kind))
    groups = layer_groups(part, SAMPLES)
    assert sorted(name for group in groups for name in group.layers) == sorted(part.layers)
    gated = [("gate", "up")] if kind != "gpt-2" else [("up",)]
    endings = [tuple(name.rpartition(".")[2] for name in group.layers) for group in groups if group.stage == 2]
    assert endings == [("qkv",), ("output",), *gated, ("down",)]


def test_blocks_are_rounded_once_for_precisions_that_differ_in_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    form = form_of("llama-tied-biased")
    blocks = dict.fromkeys(linear_layers(form), INT4)
    rounder = Rounder(CachedPart(form), SAMPLES)
    first = rounder.round({**blocks, "embedding": INT4})
    expected = Rounder(CachedPart(form), SAMPLES).round(blocks)
    monkeypatch.setattr(gptq, "second_moments", None)  # nothing is looked at again
    again = rounder.round(blocks)
    assert first.keys() - again.keys() == {"embedding"}
    assert all((again[name].values == expected[name].values).all() for name in blocks)
