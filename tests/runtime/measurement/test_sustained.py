"""Windows of a sustained run, with a clock that only calls move forward."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_runtime.measurement.sustained import MAX_LATENCIES, MAX_WINDOWS, Window, run_sustained, window_length
from fastserve_runtime.measurement.thermal import ThermalReading


class Device:
    """A clock that only calls move forward; a call may press Ctrl-C."""

    def __init__(self, *seconds, busy=1.0, interrupted_at=None):
        self.now = 50.0
        self.indices = []
        self.read_at = []
        self._seconds = itertools.cycle(seconds)
        self._busy = busy
        self._interrupted_at = interrupted_at

    def call(self, index):
        self.indices.append(index)
        if index == self._interrupted_at:
            raise KeyboardInterrupt
        self.now += next(self._seconds)

    def read(self):
        self.read_at.append(self.now)
        return ThermalReading(temperature_celsius=self.now)

    def sustain(self, seconds, **arguments):
        return run_sustained(
            self.call,
            seconds,
            read=self.read,
            clock=lambda: self.now,
            cpu_clock=lambda: self.now * self._busy,
            **arguments,
        )


def test_a_run_is_cut_into_windows_of_equal_length():
    device = Device(0.125)
    run = device.sustain(60)
    assert run.window_seconds == 2
    assert len(run.windows) == MAX_WINDOWS
    assert {w.items for w in run.windows} == {16}
    assert {w.items_per_second for w in run.windows} == {8}
    assert [w.start for w in run.windows] == [2.0 * i for i in range(30)]
    assert (run.asked_seconds, run.interrupted) == (60, False)


def test_every_call_gets_the_next_number():
    device = Device(0.125)
    device.sustain(12)
    assert device.indices == list(range(len(device.indices)))


def test_the_state_is_read_before_the_run_and_after_each_window():
    device = Device(0.125)
    run = device.sustain(4)
    assert device.read_at == [50, 51, 52, 53, 54]
    assert run.before.temperature_celsius == 50
    assert [w.thermal.temperature_celsius for w in run.windows] == [51, 52, 53, 54]


def test_percentiles_are_those_of_early_stopping_and_missing_where_calls_are_few():
    run = Device(0.0078125).sustain(1)
    assert (run.windows[0].p50, run.windows[0].p90) == (0.0078125, 0.0078125)
    few = Device(0.5).sustain(1)
    assert (few.windows[0].items, few.windows[0].p50, few.windows[0].p90) == (2, None, None)


def test_a_call_longer_than_the_run_is_one_window():
    run = Device(90.0).sustain(6)
    assert [w.seconds for w in run.windows] == [90]


def test_a_short_rest_belongs_to_the_last_window():
    assert [w.seconds for w in Device(0.125).sustain(3.25).windows] == [1, 1, 1.25]
    assert [w.seconds for w in Device(0.125).sustain(3.75).windows] == [1, 1, 1, 0.75]


def test_the_share_of_a_processor_is_told():
    assert {w.busy_share for w in Device(0.125, busy=0.5).sustain(3).windows} == {0.5}


def test_windows_are_told_as_they_end():
    seen = []
    run = Device(0.125).sustain(3, on_window=seen.append)
    assert tuple(seen) == run.windows


def test_ctrl_c_keeps_what_was_seen_until_then():
    run = Device(0.125, interrupted_at=20).sustain(60)
    assert run.interrupted
    assert [w.items for w in run.windows] == [16, 4]
    assert run.windows[-1].seconds == 0.5


def test_ctrl_c_before_the_first_call_has_ended_leaves_nothing():
    run = Device(0.125, interrupted_at=0).sustain(60)
    assert run.interrupted
    assert run.windows == ()


def test_ctrl_c_between_windows_counts_none_twice():
    def press(window):
        raise KeyboardInterrupt

    run = Device(0.125).sustain(60, on_window=press)
    assert run.interrupted
    assert [w.items for w in run.windows] == [16]


def test_a_window_of_very_many_calls_keeps_some_latencies():
    seconds = 2**-17
    run = Device(seconds).sustain(1)
    assert run.windows[0].items == 2**17 > MAX_LATENCIES
    assert run.windows[0].p90 == seconds


@given(st.floats(0.01, 1e6))
def test_windows_are_not_too_many_and_not_too_short(seconds):
    length = window_length(seconds)
    assert length >= 1
    assert seconds / length <= MAX_WINDOWS * (1 + 1e-9)


@given(st.floats(0.5, 100), st.lists(st.floats(0.05, 20), min_size=1, max_size=10))
def test_no_call_is_lost_and_windows_follow_one_another(seconds, latencies):
    device = Device(*latencies)
    run = device.sustain(seconds)
    assert sum(w.items for w in run.windows) == len(device.indices)
    for before, after in itertools.pairwise(run.windows):
        assert after.start == pytest.approx(before.start + before.seconds)
    total = sum(w.seconds for w in run.windows)
    assert seconds - 1e-6 <= total <= seconds + max(latencies) + 1e-6
    assert len(run.windows) <= MAX_WINDOWS + 1


def test_a_window_is_written_with_its_state():
    window = Window(1.0, 2.0, 8, 0.25, None, 0.9, ThermalReading(temperature_celsius=40.0, firmware_now=("throttled",)))
    document = window.as_document()
    assert document["items_per_second"] == 4
    assert document["firmware_now"] == ["throttled"]
    assert document["frequency_megahertz"] is None
