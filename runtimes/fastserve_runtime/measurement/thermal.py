"""How warm and how fast the processor is, and whether it is held back, as Linux shows it under `/sys`."""

from __future__ import annotations

import re
import statistics
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PROCESSOR_SENSORS = {"coretemp", "cpu_thermal", "k10temp", "zenpower"}
_FIRMWARE_STATES = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
_HAS_OCCURRED = 16


@dataclass(frozen=True)
class ThermalReading:
    """The state of the processor at one moment; None where the system does not show it.

    Attributes:
        temperature_celsius: the highest of the thermal zones; where there is none, of the processor's own sensors.
        frequency_megahertz: the mean over the processor's cores.
        highest_frequency_megahertz: that of the fastest core.
        throttle_count: how often the kernel saw the processor throttle since the system started, summed over cores
            (x86; a throttling of the whole package counts once for each core).
        firmware_now: states that a Raspberry Pi's firmware is in now, such as `throttled` or `under-voltage`.
        firmware_occurred: states that it was in since the system started.
    """

    temperature_celsius: float | None = None
    frequency_megahertz: float | None = None
    highest_frequency_megahertz: float | None = None
    throttle_count: int | None = None
    firmware_now: tuple[str, ...] | None = None
    firmware_occurred: tuple[str, ...] | None = None

    def as_document(self) -> dict[str, Any]:
        """Return the reading as JSON fields."""
        return {
            "temperature_celsius": self.temperature_celsius,
            "frequency_megahertz": self.frequency_megahertz,
            "highest_frequency_megahertz": self.highest_frequency_megahertz,
            "throttle_count": self.throttle_count,
            "firmware_now": None if self.firmware_now is None else list(self.firmware_now),
            "firmware_occurred": None if self.firmware_occurred is None else list(self.firmware_occurred),
        }

    @property
    def not_shown(self) -> dict[str, str]:
        """The fields that are None, each with the reason."""
        reason = "Linux does not show it here" if sys.platform == "linux" else f"not read on {sys.platform}"
        return {name: reason for name, value in self.as_document().items() if value is None}


def read_thermal(root: Path = Path("/")) -> ThermalReading:
    """Read the state of the processor. Takes a few milliseconds at most.

    Args:
        root: the folder that holds `sys` and `proc`.
    """
    frequencies = _frequencies(root)
    now, occurred = _firmware_states(root)
    return ThermalReading(
        temperature_celsius=_temperature(root),
        frequency_megahertz=statistics.fmean(frequencies) if frequencies else None,
        highest_frequency_megahertz=max(frequencies, default=None),
        throttle_count=_throttle_count(root),
        firmware_now=now,
        firmware_occurred=occurred,
    )


def decode_firmware_flags(flags: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Name the states that the bits of a Raspberry Pi's `get_throttled` stand for: now, and since the system started.

    Bits 0 to 3 are states of now, bits 16 to 19 the same since the start, in the order under-voltage, frequency
    capped, throttled, soft temperature limit (https://www.raspberrypi.com/documentation/computers/os.html).
    """
    now = tuple(name for bit, name in enumerate(_FIRMWARE_STATES) if flags >> bit & 1)
    occurred = tuple(name for bit, name in enumerate(_FIRMWARE_STATES) if flags >> (bit + _HAS_OCCURRED) & 1)
    return now, occurred


def _temperature(root: Path) -> float | None:
    # Thousandths of a degree. A zone that is switched off cannot be read.
    zones = list(_numbers((root / "sys/class/thermal").glob("thermal_zone*/temp")))
    if not zones:
        sensors = (root / "sys/class/hwmon").glob("hwmon*")
        named = (s for s in sensors if _text(s / "name") in _PROCESSOR_SENSORS)
        zones = list(_numbers(file for sensor in named for file in sensor.glob("temp*_input")))
    return max(zones) / 1000 if zones else None


def _frequencies(root: Path) -> list[float]:
    """Return one frequency a core, MHz."""
    cores = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
    kilohertz = list(_numbers(cores))
    if kilohertz:
        return [value / 1000 for value in kilohertz]
    lines = re.findall(r"^cpu MHz\s*:\s*([0-9]+(?:\.[0-9]+)?)\s*$", _text(root / "proc/cpuinfo") or "", re.MULTILINE)
    return [float(line) for line in lines]


def _throttle_count(root: Path) -> int | None:
    counters = list(_numbers((root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/*_throttle_count")))
    return sum(counters) if counters else None


def _firmware_states(root: Path) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    # `soc/soc:firmware`; on a Raspberry Pi 5 the names carry an address.
    for file in (root / "sys/devices/platform").glob("soc*/soc*:firmware/get_throttled"):
        try:
            return decode_firmware_flags(int(_text(file) or "", 16))
        except ValueError:
            continue
    return None, None


def _numbers(files: Iterable[Path]) -> Iterator[int]:
    for file in files:
        try:
            yield int(_text(file) or "")
        except ValueError:
            continue


def _text(file: Path) -> str | None:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return None
