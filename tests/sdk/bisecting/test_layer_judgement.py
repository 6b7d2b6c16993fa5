"""Which layers are blamed, given the errors of all of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisected_layers import layer
from fastserve.bisecting.layer_judgement import MIN_SQNR_DB, Layer, blamed, layer_of, peers
from fastserve_runtime.conformance.widths import HALF_ARITHMETIC, WIDTHS


def blocks(*ratios: float, **changes: Any) -> list[Layer]:
    return [layer(f"encoder.{number}.dense", ratio, **changes) for number, ratio in enumerate(ratios)]


def test_a_layer_below_the_least_ratio_of_its_precision_is_blamed() -> None:
    assert list(blamed(blocks(140, 79, 140), "fp32")) == [1]
    assert "79.0 dB, at least 80 is wanted in fp32" in blamed(blocks(140, 79, 140), "fp32")[1]
    assert list(blamed(blocks(9, 38), "int8")) == [0]


def test_a_rounded_layer_far_below_its_like_is_blamed() -> None:
    assert list(blamed(blocks(38, 40, 25, 39), "int8")) == [2]
    assert not blamed(blocks(38, 40, 29, 39), "int8")


def test_a_rounded_layer_that_has_enough_is_not_blamed_for_less_than_its_like() -> None:
    assert not blamed(blocks(82, 80, 46, 81), "int16")


def test_a_float_layer_of_a_rounded_model_is_held_to_what_floats_give() -> None:
    found = blamed(blocks(140, 141, 60, 142), "int8")
    assert list(found) == [2]
    assert "100.0 or more" in found[2]


def test_a_float_operator_that_only_one_module_has_is_held_to_floats_too() -> None:
    rest = blocks(140, 141, 142, operator="add", exported="Add", call=1)
    embeddings = layer("embeddings", 25, operator="add", exported="Add")
    assert list(blamed([embeddings, *rest], "int8")) == [0]
    assert "Add computes in floats elsewhere: at least 28 is wanted" in blamed([embeddings, *rest], "int8")[0]
    exact = layer("embeddings", 130, operator="add", exported="Add")
    assert not blamed([exact, *rest], "int8")
    rounded = blocks(38, 141, 142, operator="add", exported="Add", call=1)
    assert 0 not in blamed([embeddings, *rounded], "int8")
    assert not blamed([embeddings], "int8")


@pytest.mark.parametrize(
    ("local", "explained", "width", "is_blamed"),
    [
        (22, 33.3, "int8", True),
        (27.2, 33.3, "int8", True),
        (27.4, 33.3, "int8", False),
        (20, 25, "int8", False),
        (22, 33.3, "int4", False),
        (22, None, "int8", False),
        (999, 33.3, "int8", False),
    ],
)
def test_a_lookup_is_held_to_what_rounding_its_rows_gives(
    local: float, explained: float | None, width: str, is_blamed: bool
) -> None:
    table = layer("words", local, operator="embedding", exported="Mul", rounded_sqnr_db=explained)
    found = blamed([table, *blocks(140, 141, operator="mul", exported="Div")], width)
    assert list(found) == ([0] if is_blamed else [])
    if is_blamed:
        assert found[0] == f"SQNR of its own error is {local:.1f} dB, rounding its rows to int8 gives 33.3"


def test_one_wrong_channel_is_seen_among_many_right_ones() -> None:
    layers = blocks(38, 38, 38, channel_sqnr_db=33.0)
    layers[1] = layer("encoder.1.dense", 34, channel_sqnr_db=2.0)
    assert "worst channel" in blamed(layers, "int8")[1]


def test_an_error_that_is_the_same_for_every_token_is_seen_below_noise() -> None:
    layers = blocks(38, 38, 38, steady_sqnr_db=55.0)
    layers[2] = layer("encoder.2.dense", 30, steady_sqnr_db=29.0)
    assert "same for every token" in blamed(layers, "int8")[2]


def test_half_precision_is_compared_with_its_like_too() -> None:
    assert list(blamed(blocks(71, 70, 57, 72), "fp16")) == [2]
    assert not blamed([*blocks(71, 70), layer("head", 999)], "fp16")


def test_every_width_has_a_limit_and_sums_of_16_bits_are_allowed_more() -> None:
    assert set(MIN_SQNR_DB) == set(WIDTHS)
    assert not blamed(blocks(45, 44, 43, 46), HALF_ARITHMETIC)
    assert list(blamed(blocks(45, 44, 29, 46), HALF_ARITHMETIC)) == [2]


def test_a_layer_without_its_like_is_held_to_the_least_ratio_alone() -> None:
    assert not blamed([layer("head", 20, operator="div"), *blocks(40, 40)], "int8")


@pytest.mark.parametrize(("exported", "is_blamed"), [("Sum", True), ("Add", True), ("QLinearAdd", False)])
def test_a_layer_alone_counts_as_floats_where_its_operator_does_elsewhere(exported: str, is_blamed: bool) -> None:
    elsewhere = [layer(f"encoder.{n}", 140, operator="add", exported=exported) for n in range(2)]
    embeddings = layer("embeddings", 15.5, operator="add", call=1, exported="Add")
    assert bool(blamed([embeddings, *elsewhere], "int8")) is is_blamed
    rounded_positions = layer("embeddings", 49, operator="add", call=1, exported="Add")
    assert not blamed([rounded_positions, *elsewhere], "int8")


def test_layers_behind_one_that_is_not_finite_are_no_measure_for_those_before_it() -> None:
    behind = [layer(f"encoder.{n}.dense", 999, cumulative_sqnr_db=-999) for n in range(2, 6)]
    broken = layer("encoder.1.dense", -999)
    assert list(blamed([layer("encoder.0.dense", 40), broken, *behind], "int8")) == [1]


def test_what_is_not_finite_is_blamed_in_every_precision() -> None:
    for width in MIN_SQNR_DB:
        assert list(blamed(blocks(140, -999, 140), width)) == [1]


def test_alike_are_the_same_modules_of_other_blocks_or_those_of_the_same_name() -> None:
    layers = [*blocks(1, 2, 3), layer("head.dense", 4), layer("head.norm", 5), layer("encoder.0.dense", 6, call=1)]
    assert [p.local_sqnr_db for p in peers(layers[0], layers)] == [2, 3]
    assert [p.local_sqnr_db for p in peers(layers[3], layers)] == [1, 2, 3]
    assert peers(layers[4], layers) == []


@given(st.lists(st.floats(90, 150), min_size=1, max_size=8), st.sampled_from(sorted(MIN_SQNR_DB)))
def test_float_layers_that_are_all_right_are_never_blamed(ratios: list[float], width: str) -> None:
    assert not blamed(blocks(*ratios), "fp32")
    assert not blamed(blocks(*(100 + r for r in ratios)), width)


@pytest.mark.parametrize(("operator", "name"), [("linear", "a: linear 2"), ("view", "a: QAttention")])
def test_layers_are_called_by_what_they_compute(operator: str, name: str) -> None:
    assert layer("a", 1, operator=operator, call=1, exported="QAttention").name == name


def test_a_layer_is_read_from_a_comparison() -> None:
    local = {
        "sqnr_db": 40.0,
        "worst_sample": 3,
        "worst_sqnr_db": 35.0,
        "channel": 7,
        "channel_sqnr_db": 30.0,
        "steady_sqnr_db": None,
        "rounded_sqnr_db": 38.0,
    }
    document = {
        "module": "",
        "operator": "add",
        "call": 1,
        "tensor": "t",
        "exported": "Add",
        "factor": 1.0,
        "modules": ["a", ""],
        "before": [0],
        "local": local,
        "cumulative": {"sqnr_db": 20.0},
    }
    found = layer_of(document)
    assert (found.name, found.modules, found.before, found.cumulative_sqnr_db) == (
        "(model): add 2",
        ("a", ""),
        (0,),
        20,
    )
    assert found.as_document()["before"] == [0]
