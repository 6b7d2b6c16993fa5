"""Measuring an artifact on a device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastserve.cache.code_digests import code_digest
from fastserve.devices import Device, MeasurementJob
from fastserve.pipeline.step import Made
from fastserve.pipeline.workshop import Workshop
from fastserve_converters.models.reference import INPUTS
from fastserve_runtime.measurement.measurement import measurement_document
from fastserve_runtime.plugins import PIPELINES

ARTIFACT, REFERENCE = "artifact", "reference"
"""What it needs."""
_MEASURING = "fastserve_runtime.measurement.measuring"


@dataclass(frozen=True)
class Measuring:
    """Measures an artifact, and takes its outputs on all inputs of the reference.

    Attributes:
        device: where.
        task: says which calls are timed.
        format: the artifact's.
        threads: how many one inference may use.
    """

    device: Device
    task: str
    format: str
    threads: int

    def key(self, made: Made) -> dict[str, Any]:
        """Return the contents of the model and the inputs, the machine, its engine, and the code that measures."""
        artifact, engine = made[ARTIFACT], self.device.engine(self.format)
        return {
            # What is in them counts, not what they were made from: another making may give other bytes.
            "model": {name: artifact.files[name] for name in artifact.result["files"]},
            "graphs": artifact.result["graphs"],
            "inputs": made[REFERENCE].files[INPUTS],
            "task": self.task,
            "device": self.device.NAME,
            "machine": self.device.machine().fingerprint,
            "engine": [engine.name, engine.version],
            "threads": self.threads,
            "code": code_digest(
                _MEASURING, PIPELINES.load(self.task), self.device, *(() if engine.code is None else (engine.code,))
            ),
        }

    def do(self, made: Made, out: Path, workshop: Workshop) -> Any:
        """Have the device measure it."""
        artifact = made[ARTIFACT]
        job = MeasurementJob(
            task=self.task,
            model=artifact.folder / artifact.result["files"][0],
            format_name=self.format,
            graphs=artifact.result["graphs"],
            inputs=made[REFERENCE].folder / INPUTS,
            threads=self.threads,
            debug=workshop.debug,
        )
        return measurement_document(self.device.measure(out, job))
