import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_runtime.measurement.early_stopping import percentile_estimate, queries_needed
from fastserve_runtime.measurement.latency import (
    MAX_QUERIES,
    MIN_SECONDS,
    WARM_UP_CALLS,
    WARM_UP_SECONDS,
    measure_latency,
    summarize,
)


class Machine:
    """A clock that only calls move forward, each by the seconds given for it."""

    def __init__(self, *seconds, busy=1.0):
        self.now = 100.0
        self.indices = []
        self._seconds = itertools.cycle(seconds)
        self._busy = busy

    def call(self, index):
        self.indices.append(index)
        self.now += next(self._seconds)

    def measure(self, **limits):
        return measure_latency(self.call, clock=lambda: self.now, cpu_clock=lambda: 7 + self.now * self._busy, **limits)


def test_every_call_gets_the_next_number():
    machine = Machine(0.01)
    machine.measure()
    assert machine.indices == list(range(len(machine.indices)))


def test_a_steady_model_has_the_same_figure_everywhere_and_is_trustworthy():
    latency = Machine(0.125).measure(max_seconds=1000, min_seconds=0)
    assert (latency.mean, latency.minimum, latency.maximum, latency.p50, latency.p90) == (0.125,) * 5
    assert latency.warnings == ()
    assert latency.is_trustworthy


@pytest.mark.parametrize(("seconds", "calls"), [(0.25, WARM_UP_CALLS), (0.03125, WARM_UP_SECONDS / 0.03125)])
def test_warming_up_takes_its_calls_and_its_time_and_is_not_counted(seconds, calls):
    machine = Machine(seconds)
    latency = machine.measure(max_seconds=1000)
    assert len(machine.indices) - latency.queries == calls


def test_a_slow_first_call_is_left_out():
    machine = Machine(*([4.0] + [0.125] * 10_000))
    latency = machine.measure(max_seconds=1000)
    assert latency.maximum == 0.125


def test_a_very_slow_model_is_not_warmed_up_beyond_a_third_of_the_time():
    machine = Machine(8.0)
    latency = machine.measure(max_seconds=15)
    assert latency.queries == 2
    assert len(machine.indices) == 3
    assert (latency.p50, latency.p90, latency.p99) == (None, None, None)
    assert not latency.is_trustworthy
    assert "only 2 queries ran in the time; the p90 estimate needs 64" in latency.warnings


def test_one_query_is_timed_even_in_no_time():
    latency = Machine(1.0).measure(max_seconds=0)
    assert latency.queries == 1
    assert latency.mean == 1.0


def test_the_p90_estimate_gets_its_queries_where_there_is_time():
    latency = Machine(0.125).measure(max_seconds=1000, min_seconds=0)
    assert latency.queries >= queries_needed(0.9)


def test_measuring_goes_on_for_the_least_time():
    machine = Machine(0.015625)
    latency = machine.measure()
    assert latency.queries * 0.015625 >= MIN_SECONDS
    assert latency.queries >= queries_needed(0.9)


def test_measuring_stops_when_the_time_is_over():
    latency = Machine(0.5).measure(max_seconds=15)
    assert latency.queries == 30
    assert latency.p90 is None
    assert latency.p50 == 0.5


def test_a_fast_model_is_measured_for_the_least_time_too():
    latency = Machine(0.0009765625).measure()
    assert latency.queries * 0.0009765625 >= MIN_SECONDS


def test_a_model_that_reaches_662_queries_in_its_time_gets_a_p99_estimate():
    assert Machine(MIN_SECONDS / 700).measure().p99 is not None
    assert Machine(MIN_SECONDS / 640).measure().p99 is None


def test_a_model_that_takes_no_time_is_not_measured_for_ever():
    machine = Machine(*[WARM_UP_SECONDS] * WARM_UP_CALLS, *[0.0] * MAX_QUERIES)
    assert machine.measure().queries == MAX_QUERIES


def test_a_process_that_waited_for_a_processor_is_untrusted():
    assert Machine(0.125, busy=0.5).measure().warnings == ("the process had a processor for only 50% of the time",)
    assert Machine(0.125, busy=0.9).measure().is_trustworthy


def test_a_model_on_several_processors_is_not_untrusted_for_it():
    assert Machine(0.125, busy=3.5).measure().is_trustworthy


def test_estimates_are_those_of_early_stopping():
    values = [i / 1000 for i in range(1, 1001)]
    latency = summarize(values)
    assert (latency.p50, latency.p90, latency.p99) == tuple(percentile_estimate(values, p) for p in (0.5, 0.9, 0.99))
    assert (latency.queries, latency.minimum, latency.maximum) == (1000, 0.001, 1.0)
    assert latency.mean == pytest.approx(0.5005)


def test_a_long_tail_is_untrusted():
    values = [1.0, 1.0, 1.0, 2.0] * 50
    assert summarize(values).warnings == ("p90 is 2.0 times the median",)


def test_a_drift_is_untrusted_in_both_directions():
    values = [1.0] * 100 + [1.2] * 100 + [1.4] * 100
    assert summarize(values).warnings == ("the first and last thirds differ by 1.4 times",)
    assert summarize(values[::-1]).warnings == ("the first and last thirds differ by 1.4 times",)


@given(st.lists(st.just(0.0) | st.floats(1e-9, 1e4), min_size=1, max_size=100), st.floats(0, 8))
def test_any_run_can_be_summarized(values, busy_share):
    latency = summarize(values, busy_share=busy_share)
    assert latency.queries == len(values)
    assert latency.minimum <= latency.maximum
    assert latency.is_trustworthy == (not latency.warnings)
    assert (latency.p90 is None) == (len(values) < 64)
