"""The machine that FastServe runs on: artifacts are measured in a fresh process that has only the runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastserve.cache.writable import has_no_room
from fastserve.devices import OUTPUTS, EngineThere, MeasurementJob
from fastserve_runtime.engines import installed_engine
from fastserve_runtime.errors import DiskFull, EnvironmentFailure, FastServeError, ProcessDied, says_disk_full
from fastserve_runtime.measurement.machine import Machine, this_machine
from fastserve_runtime.measurement.measurement import Measurement, parse_measurement
from fastserve_runtime.processes.child import Child, ChildEnded, Program
from fastserve_runtime.processes.limits import Limits

NAME = "local"
ATTEMPTS = 3
TIMEOUT_SECONDS = 1800
_TIMED_SAMPLES = 64
_MEASURING = "fastserve_runtime.measurement.measuring"


def machine() -> Machine:
    """Describe this machine."""
    return this_machine()


def engine(format_name: str) -> EngineThere:
    """Return the engine of a format that is installed."""
    found = installed_engine(format_name)
    return EngineThere(found.NAME, found.version(), found)


def measure(out: Path, job: MeasurementJob) -> Measurement:
    """Measure a model; see `Device.measure`.

    An unsteady run is repeated, at most `ATTEMPTS` times in all; the steadiest counts.
    """
    request = {
        "task": job.task,
        "model": str(job.model),
        "format": job.format_name,
        "engine": None,
        "graphs": dict(job.graphs),
        "threads": job.threads,
        "inputs": str(job.inputs),
        "timed_samples": _TIMED_SAMPLES,
        "outputs": str(out / OUTPUTS),
    }
    best: Measurement | None = None
    for _ in range(ATTEMPTS):
        measurement = _run(request, out, debug=job.debug)
        if best is None or _unsteadiness(measurement) < _unsteadiness(best):
            best = measurement
        if best.latency.is_trustworthy:
            break
    assert best is not None
    return best


def _unsteadiness(measurement: Measurement) -> tuple[int, float]:
    latency = measurement.latency
    return len(latency.warnings), latency.p90 or latency.maximum


def _run(request: Mapping[str, Any], out: Path, *, debug: bool) -> Measurement:
    program = Program(_MEASURING, ("--debug",) if debug else ())
    try:
        with Child(program, Limits(seconds=TIMEOUT_SECONDS), debug=debug) as child:
            answer, _ = child.ask(request)
    except ChildEnded as ended:
        if ended.was_late:
            raise EnvironmentFailure(f"Measuring hung and was ended after {TIMEOUT_SECONDS:g} s.") from ended
        if has_no_room(out) or says_disk_full(ended.log):
            raise DiskFull(" while measuring") from ended
        words = ended.last_words()
        last = f" Its last words: {words}" if words else ""
        raise ProcessDied(f"The measuring process {ended.how}.{last}") from ended
    except FastServeError as error:
        raise EnvironmentFailure(error.problem, error.remedy) from error
    if answer.get("is_disk_full"):
        raise DiskFull(" while measuring")
    return parse_measurement(answer["measurement"])
