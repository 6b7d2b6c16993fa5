"""The machine that FastServe runs on: artifacts are measured in a fresh process that has only the runtime."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastserve.cache.writable import has_no_room
from fastserve.devices import OUTPUTS, MeasurementJob
from fastserve_runtime.errors import DiskFull, EnvironmentFailure, says_disk_full
from fastserve_runtime.measurement.machine import Machine, this_machine
from fastserve_runtime.measurement.measurement import Measurement, parse_measurement
from fastserve_runtime.processes.lifeline import lifeline

NAME = "local"
ATTEMPTS = 3
TIMEOUT_SECONDS = 1800
_TIMED_SAMPLES = 64


def machine() -> Machine:
    """Describe this machine."""
    return this_machine()


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
    return len(latency.doubts), latency.p90 or latency.most


def _run(request: Mapping[str, Any], out: Path, *, debug: bool) -> Measurement:
    request_file, result_file = out / "request.json", out / "result.json"
    request_file.write_text(json.dumps({**request, "result": str(result_file)}))
    command = [sys.executable, "-m", "fastserve_runtime.measurement.measuring", str(request_file)]
    try:
        with lifeline() as line:
            done = subprocess.run(
                command + (["--debug"] if debug else []),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=None if debug else subprocess.PIPE,
                timeout=TIMEOUT_SECONDS,
                check=False,
                env={**os.environ, **line.environment},
                pass_fds=(line.descriptor,),
                start_new_session=True,
            )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentFailure(f"Measuring hung and was ended after {TIMEOUT_SECONDS} s.") from error
    try:
        answer = json.loads(result_file.read_text())
    except (OSError, ValueError) as error:
        if has_no_room(out) or (not debug and says_disk_full(done.stderr.decode(errors="replace"))):
            raise DiskFull(" while measuring") from error
        words = [] if debug else done.stderr.decode(errors="replace").strip().splitlines()
        last = f" Its last words: {words[-1]}" if words else ""
        raise EnvironmentFailure(f"The measuring process died with exit code {done.returncode}.{last}") from error
    finally:
        request_file.unlink(missing_ok=True)
        result_file.unlink(missing_ok=True)
    if answer.get("is_disk_full"):
        raise DiskFull(" while measuring")
    if "measurement" not in answer:
        raise EnvironmentFailure(answer["problem"], answer["remedy"])
    return parse_measurement(answer["measurement"])
