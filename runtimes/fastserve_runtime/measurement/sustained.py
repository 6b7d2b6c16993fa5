"""Running a model for minutes, in windows, to see whether it keeps its speed as the device warms up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastserve_runtime.measurement.early_stopping import percentile_estimate
from fastserve_runtime.measurement.thermal import ThermalReading, read_thermal
from fastserve_runtime.processes.interruption import answer_ctrl_c

MIN_WINDOW_SECONDS = 1.0
MAX_WINDOWS = 30
MAX_LATENCIES = 20_000
"""A window of more calls keeps every second latency, or every fourth, and so on, for its percentiles."""


@dataclass(frozen=True)
class Window:
    """A stretch of a sustained run.

    Attributes:
        start: seconds since the run began.
        seconds: its length.
        items: how many calls ended in it; one item a call.
        p50: MLPerf early-stopping estimate of a call's latency in seconds; so is p90. None where there were too few.
        busy_share: processor time ÷ wall time of this process; above 1 with several threads.
        thermal: the processor's state at its end.
    """

    start: float
    seconds: float
    items: int
    p50: float | None
    p90: float | None
    busy_share: float
    thermal: ThermalReading = field(default_factory=ThermalReading)

    @property
    def items_per_second(self) -> float:
        """How many items were done in a second."""
        return self.items / max(self.seconds, 1e-9)

    def as_document(self) -> dict[str, Any]:
        """Return the window as JSON fields."""
        return {
            "start": self.start,
            "seconds": self.seconds,
            "items": self.items,
            "items_per_second": self.items_per_second,
            "p50": self.p50,
            "p90": self.p90,
            "busy_share": self.busy_share,
            **self.thermal.as_document(),
        }


@dataclass(frozen=True)
class SustainedRun:
    """What a sustained run saw.

    Attributes:
        asked_seconds: how long it was meant to last.
        window_seconds: how long a window was meant to last.
        before: the processor's state before the first call.
        windows: in order; after an interruption the last one may be short.
        interrupted: whether Ctrl-C ended it.
    """

    asked_seconds: float
    window_seconds: float
    before: ThermalReading
    windows: tuple[Window, ...]
    interrupted: bool = False


def window_length(seconds: float) -> float:
    """Return how long the windows of a run should be, in seconds: at most MOST_WINDOWS, none under a second."""
    return max(MIN_WINDOW_SECONDS, seconds / MAX_WINDOWS)


def run_sustained(
    call: Callable[[int], object],
    seconds: float,
    *,
    read: Callable[[], ThermalReading] = read_thermal,
    on_window: Callable[[Window], object] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    cpu_clock: Callable[[], float] = time.process_time,
) -> SustainedRun:
    """Run a model without pause. Ctrl-C ends the run; what was seen until then is returned.

    Args:
        call: runs the model once; gets the number of the call, to take another input each time.
        seconds: how long; the last window ends with the first call after that.
        read: reads the processor's state; called before the run and after each window.
        on_window: gets every window when it has ended.
        clock: wall-clock seconds.
        cpu_clock: processor seconds of this process.
    """
    length = window_length(seconds)
    before = read()
    begun = clock()
    windows: list[Window] = []
    recorder: _Recorder | None = None
    index = 0
    try:
        while not windows or clock() - begun < seconds:
            left = seconds - (clock() - begun)
            recorder = _Recorder(clock, cpu_clock)
            # The last window takes the rest, so that none is a mere splinter.
            recorder.run(call, index, left if left < 1.5 * length else length)
            index += recorder.items
            windows.append(recorder.window(begun, read()))
            if on_window is not None:
                on_window(windows[-1])
    except KeyboardInterrupt:
        answer_ctrl_c()
        is_unfinished = recorder is not None and (not windows or windows[-1].start != recorder.begun - begun)
        if recorder is not None and recorder.items and is_unfinished:
            windows.append(recorder.window(begun, read()))
        return SustainedRun(seconds, length, before, tuple(windows), interrupted=True)
    return SustainedRun(seconds, length, before, tuple(windows))


class _Recorder:
    """Times the calls of one window."""

    def __init__(self, clock: Callable[[], float], cpu_clock: Callable[[], float]) -> None:
        self._clock, self._cpu_clock = clock, cpu_clock
        self._cpu_begun = cpu_clock()
        self._latencies: list[float] = []
        self._stride = 1
        self._ended = self.begun = clock()
        self.items = 0

    def run(self, call: Callable[[int], object], first: int, seconds: float) -> None:
        """Call once, and again until the time is over."""
        while not self.items or self._ended - self.begun < seconds:
            call(first + self.items)
            before, self._ended = self._ended, self._clock()
            if self.items % self._stride == 0:
                self._keep(self._ended - before)
            self.items += 1

    def window(self, run_begun: float, thermal: ThermalReading) -> Window:
        """Sum up what was seen until now."""
        seconds = self._ended - self.begun
        return Window(
            start=self.begun - run_begun,
            seconds=seconds,
            items=self.items,
            p50=percentile_estimate(self._latencies, 0.5),
            p90=percentile_estimate(self._latencies, 0.9),
            busy_share=(self._cpu_clock() - self._cpu_begun) / max(seconds, 1e-9),
            thermal=thermal,
        )

    def _keep(self, latency: float) -> None:
        if len(self._latencies) == MAX_LATENCIES:
            del self._latencies[1::2]
            self._stride *= 2
        self._latencies.append(latency)
