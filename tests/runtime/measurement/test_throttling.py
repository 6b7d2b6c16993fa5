"""Verdicts on sustained runs that are made up window by window."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_runtime.measurement.sustained import SustainedRun, Window
from fastserve_runtime.measurement.thermal import ThermalReading
from fastserve_runtime.measurement.throttling import Pace, judge

START = ThermalReading(temperature_celsius=40.0, highest_frequency_megahertz=2400.0, throttle_count=7)


def made_run(speeds, *, before=START, busy=None, **states):
    """A run of windows of 10 s: `speeds` in items a second; `states` give a list for each field of the readings."""
    windows = []
    for i, speed in enumerate(speeds):
        fields = {name: values[i] for name, values in states.items()}
        reading = ThermalReading(**{"highest_frequency_megahertz": 2400.0, "throttle_count": 7, **fields})
        share = 1.0 if busy is None else busy[i]
        windows.append(Window(10.0 * i, 10.0, round(speed * 10), 0.1, 0.1, share, reading))
    return SustainedRun(600.0, 10.0, before, tuple(windows))


def test_a_run_that_keeps_its_speed_is_steady():
    judgement = judge(made_run([100, 99, 101, 100, 98, 99]))
    assert judgement.pace is Pace.STEADY
    assert judgement.first_items_per_second == 100
    assert judgement.last_items_per_second == 98.5
    assert judgement.loss == pytest.approx(0.015)
    assert judgement.evidence == ("the temperature went from 40 to 40 °C, at most 40 °C",)


def test_speed_and_frequency_that_fall_together_are_throttling():
    frequencies = [2400.0, 2400.0, 1800.0, 1500.0, 1500.0, 1500.0]
    judgement = judge(made_run([100, 100, 80, 65, 62, 62], highest_frequency_megahertz=frequencies))
    assert judgement.pace is Pace.THROTTLED
    assert judgement.loss == pytest.approx(0.38)
    assert "the processor's frequency fell from 2400 to 1500 MHz" in judgement.evidence


def test_a_device_that_throttles_within_the_first_third_is_found():
    judgement = judge(made_run([100, 60, 60, 60, 60, 60, 60, 60, 60], throttle_count=[7, *[9] * 8]))
    assert judgement.pace is Pace.THROTTLED
    assert judgement.loss == pytest.approx(0.4)


def test_the_kernels_counters_are_evidence_by_themselves():
    judgement = judge(made_run([100] * 6, throttle_count=[7, 7, 8, 9, 9, 12]))
    assert judgement.pace is Pace.THROTTLED
    assert judgement.evidence[0] == "the kernel counted 5 throttling events during the run"


def test_what_the_counters_had_before_the_run_is_no_evidence():
    assert judge(made_run([100] * 6, before=ThermalReading(throttle_count=7))).pace is Pace.STEADY


def test_states_that_the_firmware_reports_are_evidence():
    states = [(), (), ("soft temperature limit",), ("soft temperature limit", "throttled"), (), ()]
    judgement = judge(made_run([100] * 6, firmware_now=states))
    assert judgement.pace is Pace.THROTTLED
    assert judgement.evidence[0] == "the firmware reported during the run: soft temperature limit, throttled"


def test_a_state_between_two_readings_is_found_by_the_firmwares_memory():
    occurred = [(), (), *[("throttled",)] * 4]
    judgement = judge(made_run([100] * 6, firmware_now=[()] * 6, firmware_occurred=occurred))
    assert judgement.pace is Pace.THROTTLED
    before = ThermalReading(firmware_now=(), firmware_occurred=("throttled",))
    again = judge(made_run([100] * 6, before=before, firmware_now=[()] * 6, firmware_occurred=occurred))
    assert again.pace is Pace.STEADY


def test_a_low_voltage_is_told_and_is_no_throttling_by_itself():
    judgement = judge(made_run([100] * 6, firmware_now=[("under-voltage",)] * 6))
    assert judgement.pace is Pace.STEADY
    assert judgement.evidence[0] == "the firmware reported during the run: under-voltage"


def test_a_loss_of_speed_alone_is_not_called_throttling():
    judgement = judge(made_run([100, 100, 90, 80, 80, 80]))
    assert judgement.pace is Pace.SLOWER
    assert not any("frequency" in sentence for sentence in judgement.evidence)
    assert judgement.evidence[-1] == "nothing that the system shows here says why"


def test_other_work_is_named_as_a_cause():
    judgement = judge(made_run([100, 100, 50, 50, 50, 50], busy=[1.0, 1.0, 0.5, 0.5, 0.5, 0.5]))
    assert judgement.pace is Pace.SLOWER
    assert (
        "the process had 0.50 processors at the end, 1.00 at the start: other work took the rest" in judgement.evidence
    )


def test_a_frequency_that_falls_where_the_speed_does_not_is_no_throttling():
    frequencies = [2400.0, 2400.0, 2000.0, 1200.0, 1200.0, 1200.0]
    assert judge(made_run([100] * 6, highest_frequency_megahertz=frequencies)).pace is Pace.STEADY


@pytest.mark.parametrize("speeds", [[100] * 6, [100, 100, 100, 50, 50, 50]])
def test_where_the_system_shows_nothing_the_judgement_says_so(speeds):
    nothing = {"highest_frequency_megahertz": [None] * 6, "throttle_count": [None] * 6}
    judgement = judge(made_run(speeds, before=ThermalReading(), **nothing))
    assert judgement.evidence == (
        "the system shows neither frequency nor throttling here, so only the speed itself was judged",
    )


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_windows_are_too_short_to_tell(count):
    judgement = judge(made_run([100] * count))
    assert judgement.pace is Pace.TOO_SHORT
    assert judgement.loss is None
    assert f"only {count} windows of 10 s were run" in judgement.evidence


def test_throttling_that_the_kernel_saw_counts_in_a_short_run_too():
    assert judge(made_run([100, 90], throttle_count=[7, 30])).pace is Pace.THROTTLED


def test_a_run_that_became_faster_has_a_negative_loss():
    judgement = judge(made_run([80, 90, 100]))
    assert judgement.pace is Pace.STEADY
    assert judgement.loss == pytest.approx(-0.25)


@given(st.lists(st.floats(0, 1e4), max_size=40), st.data())
def test_any_run_has_a_judgement_that_can_be_written(speeds, data):
    def values(of):
        return data.draw(st.lists(st.none() | of, min_size=len(speeds), max_size=len(speeds)))

    run = made_run(
        speeds,
        temperature_celsius=values(st.floats(-40, 150)),
        highest_frequency_megahertz=values(st.floats(0, 6000)),
        throttle_count=values(st.integers(0, 1000)),
        firmware_now=values(st.just(()) | st.just(("throttled",))),
    )
    document = json.loads(json.dumps(judge(run).as_document(), allow_nan=False))
    assert document["pace"] in {pace.value for pace in Pace}
    assert (document["loss"] is None) == (len(speeds) < 3)
