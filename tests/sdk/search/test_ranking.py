"""Which candidates fit, which is best, and what binds when none fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from candidates import build_measurement
from fastserve.search.budget import Budget, Limit, budget_from_flags
from fastserve.search.candidate import Candidate
from fastserve.search.ranking import (
    KEEP,
    choose,
    explain_nothing_fits,
    judge,
    pareto_front,
    rank,
    shipped,
    shipped_for_targets,
    speed_levels,
)
from fastserve_converters.recipe import Recipe
from fastserve_runtime.conformance.quality import Quality
from fastserve_runtime.measurement.measurement import NOT_JUDGED

Make = Callable[..., Candidate]


@st.composite
def candidates(draw: st.DrawFn) -> list[Candidate]:
    made = []
    for number in range(draw(st.integers(0, 8))):
        format_name = draw(st.sampled_from(["onnx", "tflite", "executorch"]))
        failed = draw(st.integers(0, 5)) == 0
        value = draw(st.sampled_from([0.9, 0.95, 0.97, 0.99, 1.0]) | st.floats(0, 1))
        low, high = (value + side * draw(st.sampled_from([0, 0.01, 0.05])) for side in (-1, 1))
        p90 = draw(st.none() | st.sampled_from([0.001, 0.01]) | st.floats(1e-4, 1))
        measurement = build_measurement(
            p90=p90, maximum=1.5, peak=draw(st.none() | st.integers(1, 1000)), brings_pytorch=draw(st.booleans())
        )
        made.append(
            Candidate(
                Recipe(format_name, str(number)),
                format_name,
                measurement=None if failed else measurement,
                quality=None if failed else Quality("q", value, low, high, 200),
                size=draw(st.integers(1, 1000)),
                failure="it crashed" if failed else None,
            )
        )
    return made


@st.composite
def budgets(draw: st.DrawFn) -> Budget:
    limits = [
        Limit("size", "<=", draw(st.integers(1, 1000)), "B"),
        Limit("memory", "<=", draw(st.integers(1, 1000)), "B"),
        Limit("latency", "<=", draw(st.floats(1e-3, 2)), "s"),
        Limit("quality", ">=", draw(st.floats(0.5, 1)), ""),
    ]
    return Budget(tuple(draw(st.lists(st.sampled_from(limits), unique=True))))


def ids(ranked: Sequence[Candidate]) -> list[str]:
    return [c.id for c in ranked]


@settings(max_examples=100)
@given(candidates(), budgets())
def test_just_those_that_fit_are_ranked(made: list[Candidate], budget: Budget) -> None:
    judged = judge(made, budget)
    ranked = rank(judged)
    assert sorted(ids(ranked)) == sorted(c.id for c in judged if c.fits)
    for candidate in ranked:
        assert candidate.failure is None
        figures = candidate.figures()
        assert all(
            figures[limit.metric] is NOT_JUDGED or limit.is_met(figures[limit.metric]) for limit in budget.limits
        )


@settings(max_examples=100)
@given(candidates(), budgets())
def test_nobody_that_fits_beats_the_chosen_one_beyond_the_interval(made: list[Candidate], budget: Budget) -> None:
    ranked = rank(judge(made, budget))
    assume(ranked)
    best, highest = ranked[0], max(round(c.quality.value, 4) for c in ranked)
    leaders = [c for c in ranked if round(c.quality.value, 4) == highest]
    minimum = max(round(c.quality.low, 4) for c in leaders)
    equals = [c for c in ranked if round(c.quality.high, 4) >= minimum]
    assert best in equals
    for other in equals:
        if other.p90 is not None:
            # Nobody is faster beyond the measured spread of both.
            assert best.p90 is not None
            assert best.latency_spread[0] <= other.p90
    slowest = min((c.p90 for c in equals if c.p90 is not None), default=None)
    together = [c for c in equals if slowest is None or (c.latency_spread and c.latency_spread[0] <= slowest)]
    assert best.size == min(c.size for c in together)


@given(candidates(), st.randoms(use_true_random=False))
def test_the_order_in_which_candidates_come_does_not_matter(made: list[Candidate], random) -> None:
    shuffled = list(made)
    random.shuffle(shuffled)
    assert ids(rank(judge(shuffled, Budget()))) == ids(rank(judge(made, Budget())))
    assert pareto_front(shuffled) == pareto_front(made)


@st.composite
def noise(draw: st.DrawFn) -> Callable[[Candidate], Candidate]:
    """Another measurement of the same: no latency is off by more than a fiftieth."""

    def noisy(candidate: Candidate) -> Candidate:
        latency = candidate.measurement.latency
        factor = draw(st.floats(0.98, 1.02))
        figures = {name: getattr(latency, name) * factor for name in ("p50", "p90")}
        return replace(candidate, measurement=replace(candidate.measurement, latency=replace(latency, **figures)))

    return noisy


@settings(max_examples=100)
@given(st.data(), noise())
def test_noise_of_the_measurement_turns_nothing_round(data: st.DataObject, noisy) -> None:
    # Some are equally fast in truth, and others differ by far more than the noise.
    made = []
    for number in range(data.draw(st.integers(1, 7))):
        p90 = data.draw(st.sampled_from([0.001, 0.002, 0.004]))
        (candidate,) = data.draw(st.just([numbered(number, p90, data.draw(st.integers(1, 100)))]))
        made.append(candidate)
    once, again = ([noisy(c) for c in made] for _ in range(2))
    assert ids(rank(once)) == ids(rank(again)) == ids(rank(made))
    assert pareto_front(once) == pareto_front(again)


def numbered(number: int, p90: float, size: int) -> Candidate:
    measurement = build_measurement(p90=p90, p50=p90 * 0.9, maximum=1.0, peak=None)
    quality = Quality("q", 0.99, 0.98, 1.0, 200)
    return Candidate(Recipe("onnx", str(number)), "onnx", measurement=measurement, quality=quality, size=size)


def test_of_two_as_fast_within_the_spread_the_smaller_wins_however_the_noise_falls(make_candidate: Make) -> None:
    for fp32, int8 in [(0.0100, 0.0103), (0.0103, 0.0100)]:
        made = [
            make_candidate("onnx-fp32", p50=fp32 * 0.95, p90=fp32, size=4_700_000),
            make_candidate("onnx-int8", p50=int8 * 0.95, p90=int8, size=1_900_000),
        ]
        assert ids(rank(made)) == ["onnx-int8", "onnx-fp32"]
        assert pareto_front(made) == {"onnx-int8"}


def test_a_chain_of_overlapping_spreads_is_no_circle(make_candidate: Make) -> None:
    chain = [
        make_candidate(name, p50=p50, p90=p90, size=size)
        for name, p50, p90, size in [("a-1", 0.010, 0.011, 9), ("b-1", 0.0108, 0.012, 8), ("c-1", 0.0118, 0.013, 7)]
    ]
    assert speed_levels(chain) == {"a-1": 0, "b-1": 0, "c-1": 1}
    for order in permutations(chain):
        # The third is as fast as the second, and not as the first: all are told by the first, the fastest.
        assert ids(rank(order)) == ["b-1", "a-1", "c-1"]
        assert choose(order).equally_fast == tuple(c for c in order if c.id != "c-1")
        assert pareto_front(order) == {"b-1", "c-1"}


def test_qualities_count_to_the_digits_that_are_shown(make_candidate: Make) -> None:
    exact = make_candidate("a-1", quality=1.0, spread=0, size=9)
    rounded = make_candidate("b-1", quality=0.99996, spread=0, size=8)
    other = make_candidate("c-1", quality=0.9994, spread=0, size=7)
    assert ids(rank([exact, rounded, other])) == ["b-1", "a-1", "c-1"]


@given(candidates(), st.sampled_from(KEEP))
def test_what_ships_is_ranked_and_begins_with_the_chosen_one(made: list[Candidate], keep: str) -> None:
    ranked = rank(judge(made, Budget()))
    kept = shipped(ranked, keep)
    assert ids(kept) == [i for i in ids(ranked) if i in ids(kept)]
    assert kept[:1] == ranked[:1]
    formats = [c.format for c in kept]
    if keep == "best":
        assert len(kept) <= 1
    elif keep == "formats":
        assert len(formats) == len(set(formats))
        assert set(formats) == {c.format for c in ranked}
        for candidate in kept:
            assert candidate == next(c for c in ranked if c.format == candidate.format)
    else:
        assert kept == ranked


@settings(max_examples=100)
@given(candidates())
def test_no_member_of_the_pareto_front_is_dominated_and_all_others_are(made: list[Candidate]) -> None:
    measured = [c for c in made if c.measurement is not None]
    front, levels = pareto_front(made), speed_levels(measured)
    assert front <= {c.id for c in measured}
    assert bool(front) is bool(measured)

    def beats(one: Candidate, other: Candidate) -> bool:
        pairs = [
            (-round(one.quality.value, 4), -round(other.quality.value, 4)),
            (levels[one.id], levels[other.id]),
            (one.size, other.size),
        ]
        if one.peak_memory is not None and other.peak_memory is not None:
            pairs.append((round(one.peak_memory / 1e6), round(other.peak_memory / 1e6)))
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)

    for candidate in measured:
        is_beaten = any(beats(other, candidate) for other in measured if other is not candidate)
        assert (candidate.id in front) is not is_beaten


@settings(max_examples=100)
@given(candidates(), budgets())
def test_dropping_a_binding_limit_alone_lets_something_fit(made: list[Candidate], budget: Budget) -> None:
    judged = judge(made, budget)
    assume(not any(c.fits for c in judged))
    report = explain_nothing_fits(judged, budget)
    for limit in budget.limits:
        rest = Budget(tuple(x for x in budget.limits if x is not limit))
        assert (limit in report.binding) is any(c.fits for c in judge(made, rest))
    excesses = [excess for _, excess in report.nearest]
    assert excesses == sorted(excesses)
    assert len(report.nearest) == min(3, sum(c.failure is None for c in made))


def test_within_the_interval_the_faster_wins_and_outside_it_the_better(make_candidate: Make) -> None:
    exact = make_candidate("onnx-fp32", quality=1.0, spread=0, p90=0.02)
    fast = make_candidate("onnx-int8", quality=0.98, p90=0.01)
    assert rank([exact, fast])[0] is exact
    unsure = make_candidate("onnx-fp32", quality=1.0, spread=0.05, p90=0.02)
    assert rank([unsure, fast])[0] is fast


def test_intervals_that_overlap_count_as_equal(make_candidate: Make) -> None:
    best = make_candidate("onnx-fp32", quality=1.0, spread=0.02, p90=0.02)
    fast = make_candidate("onnx-int8", quality=0.97, p90=0.01)
    assert rank([best, fast])[0] is best
    reaching = replace(fast, quality=replace(fast.quality, high=0.985))
    assert rank([best, reaching])[0] is reaching


def test_of_equally_good_and_fast_ones_the_smaller_wins_then_the_name_decides(make_candidate: Make) -> None:
    large, small = make_candidate("a-1", size=9), make_candidate("b-1", size=8)
    fake_quant_reference = make_candidate("c-1", size=8)
    for order in permutations([large, small, fake_quant_reference]):
        assert ids(rank(order)) == ["b-1", "c-1", "a-1"]


def test_a_latency_in_warning_ranks_behind_any_that_is_known(make_candidate: Make) -> None:
    untrusted, known = make_candidate("a-1", p90=None, maximum=0.001), make_candidate("b-1", p90=0.5)
    assert ids(rank([untrusted, known])) == ["b-1", "a-1"]


def test_a_candidate_without_quality_ranks_last(make_candidate: Make) -> None:
    unknown, poor = make_candidate("a-1", quality=None, p90=0.001), make_candidate("b-1", quality=0.2)
    assert ids(rank([unknown, poor])) == ["b-1", "a-1"]
    assert ids(rank([unknown])) == ["a-1"]


def test_judging_keeps_failures_as_they_are(make_candidate: Make) -> None:
    failed = make_candidate("onnx-fp32", failure="it crashed")
    (judged,) = judge([failed], budget_from_flags(max_size=1))
    assert judged == failed
    assert not judged.on_front


def test_breaches_do_not_keep_a_candidate_off_the_pareto_front(make_candidate: Make) -> None:
    (judged,) = judge([make_candidate(size=10)], budget_from_flags(max_size=5))
    assert judged.on_front
    assert not judged.fits


def test_memory_that_is_not_judged_passes_any_limit_on_memory(make_candidate: Make) -> None:
    (judged,) = judge([make_candidate(peak=10**9, brings_pytorch=True)], budget_from_flags(max_memory="1MB"))
    assert judged.fits


@pytest.fixture
def misses(make_candidate: Make) -> list[Candidate]:
    return [
        make_candidate("a-big", size=400, quality=1.0),
        make_candidate("b-poor", size=90, quality=0.6),
        make_candidate("c-both", size=200, quality=0.5),
        make_candidate("d-broken", failure="it crashed"),
    ]


def test_what_binds_is_each_limit_whose_removal_would_do(misses: list[Candidate]) -> None:
    budget = budget_from_flags(max_size=100, min_quality=0.8)
    report = explain_nothing_fits(judge(misses, budget), budget)
    assert [limit.metric for limit in report.binding] == ["size", "quality"]
    assert [(c.id, round(excess, 3)) for c, excess in report.nearest] == [
        ("b-poor", 0.25),
        ("c-both", 1.375),
        ("a-big", 3.0),
    ]


def test_nothing_binds_alone_where_all_break_several(make_candidate: Make) -> None:
    budget = budget_from_flags(max_size=100, min_quality=0.8)
    report = explain_nothing_fits(judge([make_candidate(size=200, quality=0.5)], budget), budget)
    assert report.binding == ()


def test_a_missing_figure_is_the_farthest_miss(make_candidate: Make) -> None:
    budget = budget_from_flags(max_memory=100)
    made = [make_candidate("a-1", peak=None), make_candidate("b-1", peak=50_000)]
    report = explain_nothing_fits(judge(made, budget), budget)
    assert [c.id for c, _ in report.nearest] == ["b-1", "a-1"]


def test_the_pareto_front_compares_quality_as_the_table_shows_it(make_candidate: Make) -> None:
    one = make_candidate("a-1", quality=0.99999, size=10)
    other = replace(make_candidate("b-1", quality=1.0, size=11))
    assert pareto_front([one, other]) == {"a-1"}


def test_what_was_made_for_a_target_is_never_chosen_and_displaces_nothing(make_candidate: Make) -> None:
    portable = make_candidate("onnx-fp32", quality=0.9)
    own = replace(make_candidate("onnx-qnn-htp-fp32", quality=1.0, size=5), target="onnx:qnn-htp", measurement=None)
    large = make_candidate("onnx-rk3588-fp32", quality=1.0, size=10**9)
    large = replace(large, target="onnx:rk3588", measurement=None)
    judged = judge([own, portable, large], budget_from_flags(max_size="20MB"))
    assert ids(rank(judged)) == ["onnx-fp32"]
    assert all(ids(shipped(rank(judged), keep)) == ["onnx-fp32"] for keep in KEEP)
    assert ids(shipped_for_targets(judged)) == ["onnx-qnn-htp-fp32"]
    assert pareto_front(judged) == {"onnx-fp32"}
