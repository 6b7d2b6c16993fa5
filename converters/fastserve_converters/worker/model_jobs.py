"""The jobs of an export on one model; what was loaded and made stays in memory for the next."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_converters.formats import ExportJob, TappedFormat, check_installed, check_precision
from fastserve_converters.recent import Recent
from fastserve_converters.worker.job_requests import (
    ARTIFACT,
    KEPT_WEIGHTS,
    SENSITIVITY,
    SIGNATURE,
    TWIN,
    Handler,
    calibration_place,
)
from fastserve_runtime.bundle.manifest import signature_document
from fastserve_runtime.errors import UsageError
from fastserve_runtime.measurement.memory import read_memory

if TYPE_CHECKING:
    from fastserve_converters.models.model import TracedPart
    from fastserve_converters.models.samples import Samples
    from fastserve_converters.models.sources import ModelSource
    from fastserve_converters.precisions import Precision
    from fastserve_converters.quantization.weights import QuantizedWeight

PROGRAM = "program.pt2"
TWIN_SAMPLES = 64
TRACE = "trace"
"""Folder of what the torch program gives at every place that is compared, a file for each sample."""


class ModelJobs:
    """Does jobs on one model; see `fastserve_converters.worker.jobs`."""

    def __init__(self, source: ModelSource) -> None:
        self._source = source
        self._calibrations: dict[str, Samples] = {}
        self._weights: Recent[dict[str, QuantizedWeight]] = Recent(KEPT_WEIGHTS)
        self.handlers: Mapping[str, Handler] = {
            "reference": self._source.reference,
            "program": self._export_program,
            "sensitivity": self._sensitivity,
            "artifact": self._artifact,
            "lowering": self._lowering,
            "twin": self._twin,
            "layer_errors": self._layer_errors,
            "tapped_artifact": self._tapped_artifact,
        }

    def _export_program(self, request: Mapping[str, Any], out: Path) -> Any:
        """Export the model's program, after proving the model equal to the original on the reference's own inputs."""
        import torch

        difference = self._source.prove(Path(request["reference"]))
        part = self._part.fixed
        torch.export.save(part.program, out / PROGRAM)
        document = {
            **signature_document(part.signature),
            "largest_difference": difference,
            "modules": [[name, type(module).__name__] for name, module in part.module.named_modules()],
        }
        (out / SIGNATURE).write_text(json.dumps(document))
        return document

    def _sensitivity(self, request: Mapping[str, Any], out: Path) -> Any:
        """Score every layer in the schemes that a format's mixed precision may give it."""
        from fastserve_converters.models.samples import count
        from fastserve_converters.quantization import sensitivity
        from fastserve_converters.quantization.assignment import units_document
        from fastserve_converters.quantization.layers import check_finite

        exporter = check_installed(request["format"])
        check_precision(exporter.NAME, exporter.PRECISIONS, request["precision"])
        plan = exporter.PRECISIONS[request["precision"]]
        assert plan.choices is not None
        part = self._part
        check_finite(part.module)
        samples = self._calibration(plan, request)
        units = sensitivity.sensitivities(part, plan.choices, plan.activations, samples)
        layers = {name for unit in units for name in unit.layers}
        rest = [p for name, p in part.module.named_parameters() if name.removesuffix(".weight") not in layers]
        document = {
            "samples": min(count(samples), sensitivity.MOST_SAMPLES),
            "other_bytes": sum(4 * p.numel() for p in rest),
            "units": units_document(units),
        }
        (out / SENSITIVITY).write_text(json.dumps(document))
        return document

    def _artifact(self, request: Mapping[str, Any], out: Path) -> Any:
        from fastserve_converters.models.samples import count
        from fastserve_converters.quantization.recipe import recipe_document

        exporter = check_installed(request["format"])
        check_precision(exporter.NAME, exporter.PRECISIONS, request["precision"])
        plan = exporter.PRECISIONS[request["precision"]]
        job = self._export_job(plan, request, out)
        document = {
            **exporter.export(job).as_document(),
            "recipe": recipe_document(plan, request["assignment"], count(job.calibration), job.range_method),
        }
        (out / ARTIFACT).write_text(json.dumps(document))
        return document

    def _tapped_artifact(self, request: Mapping[str, Any], out: Path) -> Any:
        """Export again: as it was exported, and so that what the file keeps inside becomes outputs."""
        exporter = check_installed(request["format"])
        check_precision(exporter.NAME, exporter.PRECISIONS, request["precision"])
        job = self._export_job(exporter.PRECISIONS[request["precision"]], request, out)
        tapped: TappedFormat = exporter  # type: ignore[assignment]  # asked for of those that offer it
        artifact = exporter.export(job)
        return {
            "model": artifact.files[0],
            "tapped": tapped.TAPPED_MODEL,
            "taps": [tap.as_document() for tap in tapped.export_with_taps(job)],
        }

    def _lowering(self, request: Mapping[str, Any], out: Path) -> Any:
        """Make a target's own artifact, and run the same quantized graph on an executor that is trusted."""
        from fastserve_converters.lowerings import check_lowering_installed
        from fastserve_converters.models.reference import INPUTS
        from fastserve_converters.worker.lowering_job import lower

        lowering = check_lowering_installed(request["target"])
        check_precision(lowering.TARGET, lowering.PRECISIONS, request["precision"])
        job = self._export_job(lowering.PRECISIONS[request["precision"]], request, out)
        return lower(lowering, job, Path(request["reference"]) / INPUTS)

    def _export_job(self, plan: Precision, request: Mapping[str, Any], out: Path) -> ExportJob:
        from fastserve_converters.quantization import calibration, evidence, twin

        return ExportJob(
            part=self._part.with_axes(is_open=plan.has_dynamic_length),
            precision=request["precision"],
            plan=plan,
            weights=self._quantized(plan, request),
            calibration=self._calibration(plan, request),
            samples=(
                calibration.first_inputs(Path(request["reference"]), max(evidence.SAMPLES, twin.SAMPLES))
                if plan.looks_at_samples
                else {}
            ),
            range_method=plan.range_method(request["range_method"]),
            base=Path(request["base"]) if request.get("base") else None,
            out=out,
        )

    def _twin(self, request: Mapping[str, Any], out: Path) -> Any:
        """Compare an artifact's outputs on evaluation samples with those of the same quantized model elsewhere."""
        import numpy as np

        from fastserve_converters.models.reference import INPUTS
        from fastserve_converters.models.samples import count
        from fastserve_converters.quantization import twin
        from fastserve_converters.quantization.fake_quant import fake_quantized

        exporter = check_installed(request["format"])
        plan = exporter.PRECISIONS[request["precision"]]
        part = self._part
        recorded = twin.read_outputs(Path(request["artifact"]))
        few = TWIN_SAMPLES if recorded is None else count(recorded[0])
        with np.load(Path(request["reference"]) / INPUTS) as inputs, np.load(request["outputs"]) as outputs:
            given, actual = ({name: arrays[name][:few] for name in arrays.files} for arrays in (inputs, outputs))
        if recorded is None:
            with fake_quantized(part.module, self._quantized(plan, request), plan.activations):
                rounding = ", activations in float" if plan.has_static_ranges else ""
                recorded = part.run(given), f"the same integers in PyTorch{rounding}"
        document = twin.comparison(recorded[0], part.by_sample(actual, given), recorded[1])
        (out / TWIN).write_text(json.dumps(document))
        return document

    def _layer_errors(self, request: Mapping[str, Any], out: Path) -> Any:
        """Compare what was recorded inside an artifact with the program; see `layer_errors`."""
        from fastserve_converters.diagnosis.layer_errors import Recorded, layer_errors
        from fastserve_converters.layer_map import tap_of

        recordings = [
            Recorded(Path(r["folder"]), {int(number): tap_of(tap) for number, tap in r["taps"].items()})
            for r in request["recordings"]
        ]
        part = self._part.with_axes(is_open=request["has_dynamic_length"])
        graph_module: Any = part.program.module(check_guards=False)
        modules = [name for name, _ in part.module.named_modules()]
        found = layer_errors(graph_module, modules, recordings, request["samples"], out / TRACE)
        return {**found, "peak": read_memory().peak}

    def _calibration(self, plan: Precision, request: Mapping[str, Any]) -> Samples:
        """Return the calibration inputs, looked at once for each reference, or nothing where a precision needs none."""
        from fastserve_converters.quantization.layers import check_activations

        if not plan.needs_calibration:
            return {}
        place = calibration_place(request)
        if place not in self._calibrations:
            try:
                samples = self._source.calibration(Path(request["reference"]))
            except UsageError:
                if plan.can_do_without_calibration:
                    return {}
                raise
            check_activations(self._part, samples)
            self._calibrations[place] = samples
        return self._calibrations[place]

    def _quantized(self, plan: Precision, request: Mapping[str, Any]) -> dict[str, QuantizedWeight]:
        """Return the integers of a precision; the last few are kept."""
        from fastserve_converters.quantization import layers

        part = self._part
        assignment = layers.assignment(part.module, plan, request["assignment"])
        key = (plan.rounding, calibration_place(request), frozenset(assignment.items()))

        def made() -> dict[str, QuantizedWeight]:
            samples = self._calibration(plan, request)
            return layers.quantized_weights(part.module, assignment, plan.rounding, samples)

        return self._weights.get(key, made)

    @property
    def _part(self) -> TracedPart:
        return self._source.model().only_part
