"""The integer program finds what trying everything finds, and says what is too tight."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_converters.precisions import INT8, WeightScheme
from fastserve_converters.quantization.assignment import (
    Cost,
    Option,
    Unit,
    choose,
    min_loss,
    parse_units,
    size_cost,
    time_cost,
    units_document,
)
from fastserve_runtime.errors import UsageError

INT4 = WeightScheme(4, 32)
UNITS = (
    Unit(("embeddings",), 0, (Option(INT8, 0.001, 100), Option(INT4, 0.002, 60))),
    Unit(("query", "key"), 80, (Option(None, 0.0, 400), Option(INT8, 0.01, 100), Option(INT4, 0.2, 50))),
    Unit(("dense",), 20, (Option(None, 0.0, 400), Option(INT8, 0.02, 100), Option(INT4, 0.03, 50))),
)
TABLES = st.lists(
    st.lists(st.tuples(st.floats(0, 1), st.integers(1, 100), st.integers(1, 100)), min_size=1, max_size=3),
    min_size=1,
    max_size=5,
)


@given(TABLES, st.integers(1, 400), st.integers(1, 400))
def test_no_choice_within_the_limits_loses_less(table, first: int, second: int) -> None:
    losses = [[option[0] for option in options] for options in table]
    costs = [Cost([[o[i] for o in options] for options in table], limit, "x") for i, limit in ((1, first), (2, second))]
    best = min(
        (
            sum(o[0] for o in picked)
            for picked in product(*table)
            if sum(o[1] for o in picked) <= first and sum(o[2] for o in picked) <= second
        ),
        default=None,
    )
    if best is None:
        with pytest.raises(UsageError):
            min_loss(losses, costs)
        return
    picked = min_loss(losses, costs)
    for cost in costs:
        assert sum(row[i] for row, i in zip(cost.by_option, picked, strict=True)) <= cost.limit * (1 + 1e-6)
    assert sum(row[i] for row, i in zip(losses, picked, strict=True)) <= best + 1e-6


def test_layers_of_a_unit_share_a_scheme_and_the_least_sensitive_shrink_first() -> None:
    chosen = choose(UNITS, [size_cost(UNITS, 250)])
    assert chosen == {"embeddings": INT8, "query": INT8, "key": INT8, "dense": INT4}
    assert choose(UNITS, [size_cost(UNITS, 1000)])["dense"] is None


def test_time_is_each_layers_share_of_a_model_in_one_scheme() -> None:
    cost = time_cost(UNITS, {None: 10.0, INT8: 5.0, INT4: 6.0}, 7.5)
    assert cost.by_option[1] == pytest.approx([8.0, 4.0, 4.8])
    assert cost.by_option[0] == [0.0, 0.0]
    assert choose(UNITS, [cost]) == {"embeddings": INT8, "query": INT8, "key": INT8, "dense": None}


def test_a_scheme_that_was_not_measured_is_taken_for_the_slowest() -> None:
    cost = time_cost(UNITS, {None: 10.0, INT8: 5.0}, 10)
    assert cost.by_option[2] == pytest.approx([2.0, 1.0, 2.0])


def test_a_limit_that_is_too_tight_is_named() -> None:
    with pytest.raises(UsageError, match="cheapest assignment takes 160 bytes; 150 are left"):
        choose(UNITS, [size_cost(UNITS, 150)])


def test_units_survive_json() -> None:
    assert parse_units(units_document(UNITS)) == UNITS
