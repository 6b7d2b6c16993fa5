"""Devices: where artifacts are measured; one module each, found by name and imported when used.

Third parties add theirs by the entry-point group `fastserve.devices`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fastserve_runtime.measurement.machine import Machine
from fastserve_runtime.measurement.measurement import Measurement
from fastserve_runtime.plugins import PartFolder

DEVICES = PartFolder("fastserve.devices", "fastserve.devices", "device")
OUTPUTS = "outputs.npz"
"""What `measure` writes beside its result: the artifact's outputs on all inputs."""


@dataclass(frozen=True)
class MeasurementJob:
    """What a device is asked to measure.

    Attributes:
        task: says which calls are timed.
        model: the model file.
        format_name: its format.
        graphs: its entry points, as the artifact's document has them.
        inputs: `.npz` file of inputs, samples along the first axis.
        threads: how many threads one inference may use.
        debug: show the engine's log.
    """

    task: str
    model: Path
    format_name: str
    graphs: Mapping[str, Any]
    inputs: Path
    threads: int
    debug: bool = False


@dataclass(frozen=True)
class EngineThere:
    """What runs a format on a device.

    Attributes:
        name: the engine's.
        version: of its library.
        code: the module of ours, or another's, that runs it, which counts in keys; None where it is not on this
            machine.
    """

    name: str
    version: str | None
    code: object | None = None


class Device(Protocol):
    """What a module in `devices` offers."""

    NAME: str

    def machine(self) -> Machine:
        """Describe the machine that measurements belong to."""

    def engine(self, format_name: str) -> EngineThere:
        """Say what runs a format there.

        Raises:
            EnvironmentFailure: nothing does.
        """

    def measure(self, out: Path, job: MeasurementJob) -> Measurement:
        """Measure a model and write its outputs on all inputs to `OUTPUTS` in `out`.

        Raises:
            EnvironmentFailure: measuring failed, crashed or hung.
        """
