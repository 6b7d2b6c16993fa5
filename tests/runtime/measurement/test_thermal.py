"""Reading the processor's state from a system's files, made up in a folder."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_runtime.measurement.thermal import ThermalReading, decode_firmware_flags, read_thermal

CPUINFO = "processor\t: 0\ncpu MHz\t\t: 2400.500\nprocessor\t: 1\ncpu MHz\t\t: 1200.500\n"
ZONES = "sys/class/thermal"
CORES = "sys/devices/system/cpu"
FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"


@pytest.fixture
def system(tmp_path):
    """Write files of a system and read its state."""

    def system(**files):
        for path, content in files.items():
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{content}\n")
        return read_thermal(tmp_path)

    return system


def test_the_hottest_zone_counts(system):
    reading = system(**{f"{ZONES}/thermal_zone0/temp": 45123, f"{ZONES}/thermal_zone1/temp": 61500})
    assert reading.temperature_celsius == 61.5


def test_a_zone_that_cannot_be_read_is_left_out(system, tmp_path):
    (tmp_path / ZONES / "thermal_zone2" / "temp").mkdir(parents=True)
    reading = system(**{f"{ZONES}/thermal_zone0/temp": -5000, f"{ZONES}/thermal_zone1/temp": ""})
    assert reading.temperature_celsius == -5


def test_without_zones_the_processor_has_sensors_and_other_sensors_do_not_count(system):
    hwmon = "sys/class/hwmon"
    reading = system(
        **{
            f"{hwmon}/hwmon0/name": "nvme",
            f"{hwmon}/hwmon0/temp1_input": 70000,
            f"{hwmon}/hwmon1/name": "k10temp",
            f"{hwmon}/hwmon1/temp1_input": 41000,
            f"{hwmon}/hwmon1/temp3_input": 43000,
        }
    )
    assert reading.temperature_celsius == 43


def test_frequencies_are_the_mean_and_the_highest_of_the_cores(system):
    reading = system(
        **{
            f"{CORES}/cpu0/cpufreq/scaling_cur_freq": 600000,
            f"{CORES}/cpu11/cpufreq/scaling_cur_freq": 2400000,
            f"{CORES}/cpufreq/scaling_cur_freq": 9900000,
            "proc/cpuinfo": CPUINFO,
        }
    )
    assert (reading.frequency_megahertz, reading.highest_frequency_megahertz) == (1500, 2400)


def test_without_cpufreq_the_frequencies_are_those_of_cpuinfo(system):
    reading = system(**{"proc/cpuinfo": CPUINFO})
    assert (reading.frequency_megahertz, reading.highest_frequency_megahertz) == (1800.5, 2400.5)


def test_throttle_counters_are_summed(system):
    reading = system(
        **{
            f"{CORES}/cpu0/thermal_throttle/core_throttle_count": 3,
            f"{CORES}/cpu0/thermal_throttle/package_throttle_count": 4,
            f"{CORES}/cpu0/thermal_throttle/core_throttle_total_time_ms": 999,
            f"{CORES}/cpu1/thermal_throttle/core_throttle_count": 5,
        }
    )
    assert reading.throttle_count == 12


@pytest.mark.parametrize("path", [FIRMWARE, FIRMWARE.replace("soc/soc", "soc@107c000000/soc@107c000000")])
def test_a_raspberry_pi_tells_its_states(system, path):
    reading = system(**{path: "80008"})
    assert reading.firmware_now == ("soft temperature limit",)
    assert reading.firmware_occurred == ("soft temperature limit",)


@pytest.mark.parametrize(
    ("flags", "now", "occurred"),
    [
        (0, (), ()),
        (0x50005, ("under-voltage", "throttled"), ("under-voltage", "throttled")),
        (0x2, ("frequency capped",), ()),
        (0xE0000, (), ("frequency capped", "throttled", "soft temperature limit")),
    ],
)
def test_firmware_flags_are_named(flags, now, occurred):
    assert decode_firmware_flags(flags) == (now, occurred)


@given(st.integers(0, 2**32 - 1))
def test_flags_of_now_and_of_before_are_told_apart(flags):
    now, occurred = decode_firmware_flags(flags)
    assert decode_firmware_flags(flags & 0xF) == (now, ())
    assert decode_firmware_flags(flags & 0xF0000) == ((), occurred)


@given(content=st.text(alphabet="0123456789-+. abcdefx\x00é", max_size=12))
def test_a_file_with_nonsense_is_as_if_absent_or_a_number(content, tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    for path in (f"{ZONES}/thermal_zone0/temp", f"{CORES}/cpu0/cpufreq/scaling_cur_freq", FIRMWARE, "proc/cpuinfo"):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    reading = read_thermal(root)
    assert set(reading.not_shown) == {name for name, value in reading.as_document().items() if value is None}


def test_a_system_that_shows_nothing_says_so_for_every_field(system):
    reading = system()
    assert reading == ThermalReading()
    reasons = reading.not_shown
    assert set(reasons) == set(reading.as_document())
    if sys.platform == "linux":
        assert set(reasons.values()) == {"Linux does not show it here"}


def test_this_system_can_be_read():
    assert isinstance(read_thermal(), ThermalReading)
