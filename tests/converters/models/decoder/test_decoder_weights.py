"""Which scheme each layer of a decoder gets, and which quantized weights."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fastserve_converters.formats.onnx.decoder import PRECISIONS
from fastserve_converters.models.cached_part import CachedPart
from fastserve_converters.models.decoder.own_quantized_weights import own_quantized_weights
from fastserve_converters.models.decoder.reading import read_decoder
from fastserve_converters.models.layer_groups import weight_of
from fastserve_converters.precisions import FP32, Precision, WeightScheme
from fastserve_converters.quantization.gptq import Rounder
from fastserve_converters.quantization.layers import assignment, quantized_weights
from fastserve_converters.quantization.weights import quantize_nearest
from fastserve_runtime.errors import EnvironmentFailure, UsageError
from random_decoders import CONFIGS, random_decoder

LINEAR, TABLE = WeightScheme(4, 32), WeightScheme(8, 32)
PRECISION_SPEC = Precision(LINEAR, TABLE, "dynamic-int8")
TOKENS = np.random.default_rng(0).integers(0, 256, (4, 16)).astype(np.int32)


def form_of(kind: str):
    config = CONFIGS[kind]()
    config.num_hidden_layers = 2
    return read_decoder(random_decoder(config), 32)


def assigned(form, precision_spec, given=None):
    return assignment(CachedPart(form), precision_spec, given)


def weights_of(form, precision_spec, source=None):
    part = CachedPart(form)
    return quantized_weights(
        part,
        assignment(part, precision_spec),
        precision_spec.rounding,
        rounder=lambda: Rounder(part, {"input_ids": TOKENS}),
        stored=lambda: own_quantized_weights(form, source),
    )


@pytest.mark.parametrize(("kind", "tables"), [("llama", ["embedding", "head"]), ("gpt-2", ["embedding"])])
def test_the_head_has_the_tables_scheme_and_positions_stay_in_float(kind: str, tables: list[str]) -> None:
    form = form_of(kind)
    found = assigned(form, PRECISION_SPEC)
    assert [name for name in found if not name.startswith("blocks.")] == tables
    assert {found[name] for name in tables} == {TABLE}
    blocks = {name for name, m in form.named_modules() if isinstance(m, torch.nn.Linear) and name != "head"}
    assert {name for name, scheme in found.items() if scheme == LINEAR} == blocks


def test_float_assigns_nothing() -> None:
    assert assigned(form_of("llama"), FP32) == {}


def test_columns_that_make_no_whole_groups_are_stored_in_int8_a_scale_a_row() -> None:
    scheme = WeightScheme(4, 128)
    found = assigned(form_of("llama"), Precision(scheme, scheme, "dynamic-int8"))
    assert set(found.values()) == {WeightScheme(8)}


@pytest.mark.parametrize("kind", ["llama", "llama-tied-biased"])
def test_a_mixed_precision_gives_each_layer_its_own(kind: str) -> None:
    form = form_of(kind)
    given = {
        "embedding": asdict(TABLE),
        "head": asdict(LINEAR),
        "blocks.0.attention.qkv": asdict(LINEAR),
        "blocks.1.feed_forward.up": None,
    }
    if form.is_tied:
        del given["head"]
    expected = {"embedding": TABLE, "head": LINEAR, "blocks.0.attention.qkv": LINEAR}
    if form.is_tied:
        del expected["head"]
    assert assigned(form, PRECISIONS["mixed"], given) == expected


@pytest.mark.parametrize("kind", ["llama", "llama-tied-biased"])
def test_quantized_weights_are_rounded_to_nearest_unless_the_precision_says_otherwise(kind: str) -> None:
    form = form_of(kind)
    schemes = assigned(form, PRECISION_SPEC)
    nearest = weights_of(form, PRECISION_SPEC)
    assert nearest.keys() == schemes.keys()
    for name, weight in nearest.items():
        expected = quantize_nearest(weight_of(form, name).numpy(), schemes[name])
        np.testing.assert_array_equal(weight.values, expected.values)
    gptq = weights_of(form, replace(PRECISION_SPEC, rounding="gptq"))
    differing = {name for name in schemes if not np.array_equal(gptq[name].values, nearest[name].values)}
    # Eight bits lose next to nothing either way.
    assert differing == {name for name, scheme in schemes.items() if scheme.bits == 4}


@pytest.mark.parametrize(("kind", "is_embedding_rounded"), [("llama", False), ("llama-tied-biased", True)])
def test_a_table_of_four_bits_is_rounded_for_the_head_that_it_is(kind: str, is_embedding_rounded: bool) -> None:
    form = form_of(kind)
    precision_spec = Precision(LINEAR, LINEAR, "dynamic-int8", rounding="gptq")
    found = weights_of(form, precision_spec)
    nearest = quantize_nearest(weight_of(form, "embedding").numpy(), LINEAR)
    assert np.array_equal(found["embedding"].values, nearest.values) is not is_embedding_rounded
    assert ("head" in found) is not is_embedding_rounded


def test_gptq_needs_no_data_where_nothing_has_four_bits() -> None:
    form = form_of("llama")
    precision_spec = Precision(TABLE, TABLE, "dynamic-int8", rounding="gptq")
    assert weights_of(form, precision_spec)


def test_a_checkpoint_of_floats_has_no_quantized_weights_of_its_own() -> None:
    form = form_of("llama")
    precision_spec = PRECISIONS["source"]
    with pytest.raises(UsageError, match="this one has floats") as failure:
        weights_of(form, precision_spec)
    assert "GGUF" in failure.value.remedy


def test_a_file_without_a_layer_of_quantized_weights_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastserve_converters.models.decoder.gguf_weights.gguf_weights", lambda *_: {})
    form = form_of("llama")
    precision_spec = PRECISIONS["source"]
    with pytest.raises(UsageError, match=r"No layer of 'model-f16\.gguf' has quantized weights"):
        weights_of(form, precision_spec, Path("somewhere/model-f16.gguf"))


def test_a_files_own_quantized_weights_are_kept_and_the_rest_is_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    form = form_of("llama")
    own = quantize_nearest(weight_of(form, "blocks.0.attention.qkv").numpy(), WeightScheme(4, 32, symmetric=False))
    found_weights = {"blocks.0.attention.qkv": own}
    monkeypatch.setattr("fastserve_converters.models.decoder.gguf_weights.gguf_weights", lambda *_: found_weights)
    precision_spec = PRECISIONS["source"]
    schemes = assigned(form, precision_spec)
    found = weights_of(form, precision_spec, Path("model.gguf"))
    assert found["blocks.0.attention.qkv"] is own
    assert found.keys() == schemes.keys()
    assert found["head"].scheme == precision_spec.embedding


def test_a_weight_that_is_not_finite_is_named() -> None:
    form = form_of("llama")
    with torch.no_grad():
        form.layers[1].attention.output.weight[0, 0] = float("nan")
    with pytest.raises(EnvironmentFailure, match=r"weight of the layer 'blocks\.1\.attention\.output'"):
        weights_of(form, PRECISION_SPEC)
