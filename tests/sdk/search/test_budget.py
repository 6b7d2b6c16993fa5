"""Budgets: which limits are met, by how much one is broken, and what flags make of them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.search.budget import METRICS, Budget, Limit, budget_from_flags, check_applies, format_figure
from fastserve_runtime.errors import UsageError

SIZE = Limit("size", "<=", 25e6, "B")
QUALITY = Limit("quality", ">=", 0.99, "")


@pytest.mark.parametrize(
    ("limit", "figure", "is_met"),
    [(SIZE, 25e6, True), (SIZE, 25e6 + 1, False), (QUALITY, 0.99, True), (QUALITY, 0.9899, False)],
)
def test_a_figure_at_the_limit_meets_it(limit: Limit, figure: float, is_met: bool) -> None:
    assert limit.is_met(figure) is is_met


@pytest.mark.parametrize(
    ("limit", "figure", "excess"), [(SIZE, 50e6, 1), (SIZE, 1e6, 0), (QUALITY, 0.495, 0.5), (QUALITY, 1, 0)]
)
def test_excess_is_a_share_of_the_limit(limit: Limit, figure: float, excess: float) -> None:
    assert limit.excess(figure) == pytest.approx(excess)


@given(st.sampled_from(["<=", ">="]), st.floats(1e-6, 1e12), st.floats(0, 1e12))
def test_there_is_an_excess_just_where_the_limit_is_broken(comparison: str, value: float, figure: float) -> None:
    limit = Limit("size", comparison, value, "B")
    assert limit.excess(figure) >= 0
    assert (limit.excess(figure) == 0) is limit.is_met(figure)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (SIZE, "size ≤ 25.0 MB"),
        (QUALITY, "quality ≥ 0.99"),
        (Limit("latency", "<=", 0.03, "s"), "latency ≤ 30.0 ms"),
    ],
)
def test_a_limit_is_written_with_its_unit(limit: Limit, expected: str) -> None:
    assert str(limit) == expected


@pytest.mark.parametrize(
    ("value", "unit", "expected"), [(1e6, "B", "1.0 MB"), (0.5, "s", "500.0 ms"), (0.25, "", "0.25")]
)
def test_a_figure_is_written_with_its_unit(value: float, unit: str, expected: str) -> None:
    assert format_figure(value, unit) == expected


def test_an_empty_budget_lets_everything_pass() -> None:
    assert Budget().breaches({"size": 1e18, "quality": None}, {}) == ()


def test_breaches_name_each_limit_that_is_not_met_in_order() -> None:
    budget = Budget((SIZE, Limit("memory", "<=", 1e8, "B"), QUALITY))
    found = budget.breaches({"size": 30e6, "memory": 5e7, "quality": 0.5}, {})
    assert [(b.limit.metric, b.figure, b.reason) for b in found] == [
        ("size", 30e6, "size 30.0 MB"),
        ("quality", 0.5, "quality 0.5"),
    ]


@pytest.mark.parametrize("figures", [{}, {"size": None}])
def test_a_figure_that_is_missing_breaks_its_limit(figures: dict[str, float | None]) -> None:
    (breach,) = Budget((SIZE,)).breaches(figures, {})
    assert breach.figure is None
    assert breach.reason == "size was not measured"


def test_a_figure_that_is_not_a_number_breaks_its_limit() -> None:
    assert len(Budget((QUALITY, SIZE)).breaches({"quality": float("nan"), "size": float("nan")}, {})) == 2


def test_a_untrusted_figure_that_breaks_its_limit_says_why_it_is_untrusted() -> None:
    budget = Budget((Limit("latency", "<=", 0.03, "s"),))
    warnings = {"latency": "the machine was busy"}
    (breach,) = budget.breaches({"latency": 0.05}, warnings)
    assert breach.reason == "latency 50.0 ms (not trustworthy: the machine was busy)"
    assert budget.breaches({"latency": 0.02}, warnings) == ()


def test_flags_become_limits_in_the_units_of_their_metrics() -> None:
    times = {"max_latency": "30ms", "max_ttft": "2s", "max_tpot": "500us"}
    budget = budget_from_flags(max_size="25MB", max_memory="100MiB", min_quality="99%", **times)
    assert {limit.metric: limit.value for limit in budget.limits} == {
        "size": 25e6,
        "memory": 100 * 2**20,
        "latency": pytest.approx(0.03),
        "ttft": 2,
        "tpot": pytest.approx(0.0005),
        "quality": 0.99,
    }
    assert [(x.metric, x.comparison, x.unit) for x in budget.limits] == [(m, *METRICS[m]) for m in METRICS]


def test_numbers_are_bytes_seconds_and_plain_qualities() -> None:
    budget = budget_from_flags(max_size=25_000_000, max_latency=0.03, min_quality=0.5)
    assert [limit.value for limit in budget.limits] == [25e6, 0.03, 0.5]


def test_no_flags_make_an_empty_budget() -> None:
    assert budget_from_flags() == Budget()


@pytest.mark.parametrize(
    "flags",
    [
        {"max_size": 0},
        {"max_size": "0.4"},
        {"max_size": -1},
        {"max_size": "big"},
        {"max_memory": "0MB"},
        {"max_latency": 0},
        {"max_latency": -0.5},
        {"max_latency": float("nan")},
        {"max_latency": "30"},
        {"max_ttft": 0},
        {"max_ttft": "0ms"},
        {"max_tpot": -1e-9},
        {"max_tpot": "soon"},
        {"max_tpot": float("nan")},
        {"min_quality": 0},
        {"min_quality": 1.5},
        {"min_quality": "good"},
    ],
)
def test_a_flag_is_a_limit_or_refused_never_dropped(flags: dict[str, str | float]) -> None:
    with pytest.raises(UsageError):
        budget_from_flags(**flags)


@pytest.mark.parametrize(
    ("flags", "problem", "remedy"),
    [
        (
            {"max_size": "30"},
            "--max-size of '30' is 30 bytes, which nothing could meet.",
            "Did you mean 30MB? Write 30B for bytes.",
        ),
        ({"max_size": "1"}, "--max-size of '1' is 1 byte,", "Did you mean 1MB?"),
        ({"max_memory": "120"}, "--max-memory of '120' is 120 bytes", "Did you mean 120MB?"),
        ({"max_memory": "120kB"}, "--max-memory of '120kB' is a limit that nothing could meet.", "Did you mean 120MB?"),
        ({"max_size": "25000000GB"}, "--max-size of '25000000GB' is a limit that everything meets.", "25000000MB?"),
        ({"max_latency": "30ns"}, "--max-latency of '30ns' is a limit that nothing could meet.", "Did you mean 30ms?"),
        ({"max_tpot": "300min"}, "--max-tpot of '300min' is a limit that everything meets.", "Did you mean 300ms?"),
        ({"max_size": "1e99"}, "--max-size of '1e99' is a limit that everything meets.", "Write it in MB."),
        ({"min_quality": "99"}, "'99' is not a quality.", "Did you mean 99%?"),
        ({"min_quality": "0.95%"}, "A least quality of '0.95%' is one that everything meets.", "Did you mean 0.95?"),
        ({"min_quality": "1e-9"}, "A least quality of '1e-9' is one that everything meets.", "such as 0.99 or 99%."),
    ],
)
def test_a_limit_that_must_be_a_slip_is_questioned(flags: dict[str, str], problem: str, remedy: str) -> None:
    with pytest.raises(UsageError) as failure:
        budget_from_flags(**flags)
    assert problem in failure.value.problem
    assert remedy in failure.value.remedy


def test_bytes_may_be_as_few_as_somebody_writes_on_purpose() -> None:
    budget = budget_from_flags(max_size="30B", max_latency="1us")
    assert [limit.value for limit in budget.limits] == [30, pytest.approx(1e-6)]
    assert budget_from_flags(max_size=30).limits[0].value == 30
    assert budget_from_flags(max_size="1000").limits[0].value == 1000


@given(st.sampled_from(["max_latency", "max_ttft", "max_tpot"]), st.integers(1, 10**6))
def test_times_are_the_same_as_texts_and_as_seconds(flag: str, milliseconds: int) -> None:
    (limit,) = budget_from_flags(**{flag: f"{milliseconds}ms"}).limits
    (plain,) = budget_from_flags(**{flag: milliseconds / 1000}).limits
    assert limit.metric == plain.metric == flag.removeprefix("max_")
    assert (limit.comparison, limit.unit) == ("<=", "s")
    assert limit.value == pytest.approx(plain.value) == pytest.approx(milliseconds / 1000)


@pytest.mark.parametrize(
    ("flag", "generates", "problem", "remedy"),
    [
        ("max_latency", True, "--max-latency was given for a model that generates text.", "--max-ttft or --max-tpot"),
        ("max_ttft", False, "--max-ttft was given for a model that generates no text.", "--max-latency"),
        ("max_tpot", False, "--max-tpot was given for a model that generates no text.", "--max-latency"),
    ],
)
def test_times_that_a_task_does_not_have_are_refused(flag: str, generates: bool, problem: str, remedy: str) -> None:
    budget = budget_from_flags(max_size="1MB", **{flag: "1ms"})
    with pytest.raises(UsageError) as failure:
        check_applies(budget, generates=generates)
    assert failure.value.problem == problem
    assert remedy in failure.value.remedy
    check_applies(budget, generates=not generates)


@pytest.mark.parametrize("generates", [True, False])
def test_other_limits_apply_to_every_task(generates: bool) -> None:
    check_applies(budget_from_flags(max_size="1MB", max_memory="1MB", min_quality=0.9), generates=generates)


def test_a_budget_is_written_as_json() -> None:
    document = json.loads(json.dumps(budget_from_flags(max_size="25MB", min_quality=0.9).as_document()))
    assert document == [
        {"metric": "size", "comparison": "<=", "value": 25_000_000, "unit": "B"},
        {"metric": "quality", "comparison": ">=", "value": 0.9, "unit": ""},
    ]
