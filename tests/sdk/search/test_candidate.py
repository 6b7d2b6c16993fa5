"""Which of a candidate's figures a budget judges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fastserve.search.budget import Breach, Limit, budget_from_flags
from fastserve.search.candidate import Candidate
from fastserve_converters.recipe import Recipe
from fastserve_runtime.measurement.measurement import NOT_JUDGED

Make = Callable[..., Candidate]


def test_figures_are_size_peak_memory_p90_and_quality(make_candidate: Make) -> None:
    candidate = make_candidate(quality=0.97, size=7, p90=0.01, maximum=0.5, peak=9)
    assert candidate.figures() == {"size": 7, "memory": 9, "latency": 0.01, "quality": 0.97}
    assert candidate.warnings() == {}
    assert candidate.p90 == 0.01


def test_a_latency_in_warning_is_judged_by_the_longest_that_was_seen(make_candidate: Make) -> None:
    candidate = make_candidate(p90=None, maximum=0.5)
    assert candidate.p90 is None
    assert candidate.figures()["latency"] == 0.5
    assert candidate.warnings() == {"latency": "the process was interrupted"}


def test_memory_of_an_engine_that_brings_pytorch_is_not_judged(make_candidate: Make) -> None:
    candidate = make_candidate(peak=10**9, brings_pytorch=True)
    assert not candidate.is_memory_judged
    assert candidate.peak_memory is None
    assert candidate.figures()["memory"] is NOT_JUDGED
    assert budget_from_flags(max_memory="1MB").breaches(candidate.figures(), candidate.warnings()) == ()


def test_memory_that_the_system_does_not_tell_is_missing(make_candidate: Make) -> None:
    candidate = make_candidate(peak=None)
    assert candidate.is_memory_judged
    assert candidate.figures()["memory"] is None


def test_a_candidate_without_measurement_has_no_measured_figures() -> None:
    candidate = Candidate(Recipe("onnx", "fp32"), "onnx", size=7)
    assert candidate.figures() == {"size": 7, "memory": None, "latency": None, "quality": None}
    assert candidate.p90 is None
    assert candidate.peak_memory is None
    assert not candidate.is_memory_judged
    assert candidate.warnings() == {}


def test_only_what_was_made_and_measured_and_breaks_nothing_fits(make_candidate: Make) -> None:
    good = make_candidate()
    breach = Breach(Limit("size", "<=", 1, "B"), 2, "size 2 B")
    assert good.fits
    assert not replace(good, breaches=(breach,)).fits
    assert not replace(good, measurement=None).fits
    assert not replace(good, failure="it crashed").fits


def test_quality_that_was_not_worked_out_is_missing(make_candidate: Make) -> None:
    assert make_candidate(quality=None).figures()["quality"] is None


def test_a_model_that_generates_text_has_two_times_and_no_latency(make_candidate: Make) -> None:
    candidate = make_candidate(p90=0.01, ttft=0.3, size=7)
    assert candidate.generates
    assert candidate.figures() == {"size": 7, "memory": 50_000_000, "ttft": 0.3, "tpot": 0.01, "quality": 1.0}
    assert (candidate.first_token_p90, candidate.p90) == (0.3, 0.01)
    other = make_candidate()
    assert not other.generates
    assert other.first_token_p90 is None


def test_a_time_to_first_token_in_warning_is_judged_by_the_longest_and_named(make_candidate: Make) -> None:
    candidate = make_candidate(p90=0.01, ttft=None, longest_ttft=0.9)
    assert candidate.first_token_p90 is None
    assert (candidate.figures()["ttft"], candidate.figures()["tpot"]) == (0.9, 0.01)
    assert candidate.warnings() == {"ttft": "the process was interrupted"}


def test_a_generator_that_was_not_measured_meets_no_limit_on_times() -> None:
    candidate = Candidate(Recipe("onnx", "fp32"), "onnx", size=7)
    breaches = budget_from_flags(max_ttft="1s", max_tpot="1s").breaches(candidate.figures(), candidate.warnings())
    assert [b.reason for b in breaches] == ["ttft was not measured", "tpot was not measured"]


def test_what_was_made_for_a_target_is_judged_by_size_and_quality_alone(make_candidate: Make) -> None:
    own = replace(make_candidate(size=100, quality=0.9), target="onnx:qnn-htp", measurement=None)
    assert own.fits
    assert (own.figures()["memory"], own.figures()["latency"]) == (NOT_JUDGED, NOT_JUDGED)
    strict = budget_from_flags(max_latency="1us", max_memory="1MB")
    assert strict.breaches(own.figures(), own.warnings()) == ()
    breaches = budget_from_flags(max_size="99B", min_quality=0.95).breaches(own.figures(), own.warnings())
    assert [b.limit.metric for b in breaches] == ["size", "quality"]
    assert not replace(own, breaches=breaches).fits
    assert not replace(own, failure="it did not compile").fits
