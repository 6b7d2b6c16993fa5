"""Which layers are quantized in which scheme, and what cannot be."""

from __future__ import annotations

import pytest
import torch

from fastserve_converters.models.layer_groups import quantizable_layers
from fastserve_converters.precisions import FP32, INT8, Precision, WeightScheme
from fastserve_converters.quantization.gptq import Rounder
from fastserve_converters.quantization.layers import assignment, quantized_weights
from fastserve_runtime.errors import EnvironmentFailure

INT4 = WeightScheme(4, 16)


@pytest.mark.parametrize("family", ["bert", "roberta", "albert", "distilbert"])
def test_all_linear_layers_and_the_word_embeddings_are_found(encoder, family: str) -> None:
    kinds = quantizable_layers(encoder(family).module)
    assert sum(kind == "embedding" for kind in kinds.values()) == 1
    assert sum(kind == "linear" for kind in kinds.values()) == (7 if family == "albert" else 12)


def test_a_precision_gives_linear_layers_and_embeddings_their_schemes(encoder) -> None:
    part = encoder()
    found = assignment(part, Precision(INT8, INT4, "dynamic-int8"))
    assert {found[n] for n, kind in part.layers.items() if kind == "linear"} == {INT8}
    assert found["model.embeddings.word_embeddings"] == INT4
    assert assignment(part, FP32) == {}


def test_a_layer_whose_columns_make_no_groups_is_stored_in_int8(encoder) -> None:
    found = assignment(encoder(), Precision(WeightScheme(4, 48), None, "float32"))
    assert set(found.values()) == {INT8}


def test_a_mixed_precision_takes_the_assignment_it_is_given(encoder) -> None:
    part = encoder()
    given = {"model.encoder.layer.0.output.dense": {"bits": 4, "group": 16, "symmetric": False}}
    assert assignment(part, FP32, given) == {"model.encoder.layer.0.output.dense": WeightScheme(4, 16, False)}
    with pytest.raises(EnvironmentFailure, match="the layer 'nowhere'"):
        assignment(part, FP32, {"nowhere": None})


def test_gptq_rounds_small_linear_layers_only(encoder, samples) -> None:
    part = encoder()
    chosen = assignment(part, Precision(INT4, INT8, "float32"))
    nearest, compensated = (
        quantized_weights(part, chosen, r, rounder=lambda: Rounder(part, samples)) for r in ("nearest", "gptq")
    )
    differing = {n for n in chosen if (nearest[n].values != compensated[n].values).any()}
    assert differing == {n for n, s in chosen.items() if s == INT4}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_located(encoder, value: float) -> None:
    part = encoder()
    with torch.no_grad():
        part.module.get_submodule("model.encoder.layer.1.intermediate.dense").weight[0, 0] = value
    with pytest.raises(EnvironmentFailure, match=rf"weight of the layer .*layer\.1\.intermediate\.dense' .*as {value}"):
        quantized_weights(part, {})
