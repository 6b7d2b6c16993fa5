"""The jobs of an export on one model; what was loaded and made stays in memory for the next.

They ask the model's parts for what they need.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_converters.formats import (
    ExportJob,
    check_installed,
    check_precision,
    exported,
    intermediates_exporter,
    plan_of,
)
from fastserve_converters.models.model import check_takes
from fastserve_converters.models.reference import CALIBRATION, INPUTS
from fastserve_converters.worker.pass_job import run_pass
from fastserve_runtime.bundle.signatures import signature_document
from fastserve_runtime.errors import EnvironmentFailure, UsageError
from fastserve_runtime.measurement.memory import read_memory

if TYPE_CHECKING:
    from fastserve_converters.formats import Format
    from fastserve_converters.models.model import Part
    from fastserve_converters.models.samples import Samples
    from fastserve_converters.models.sources import ModelSource
    from fastserve_converters.precisions import Precision, WeightScheme
    from fastserve_converters.quantization.gptq import Rounder
    from fastserve_converters.quantized_weight import QuantizedWeight

Handler = Callable[[Mapping[str, Any], Path], Any]
"""Does one job: the request, an empty folder for files, and the stage's result, JSON."""

PROGRAM = "program.pt2"
ARTIFACT = "artifact.json"
SIGNATURE = "signature.json"
SENSITIVITY = "sensitivity.json"
FAKE_QUANT_REFERENCE = "fake_quant_reference.json"
TRACE = "trace"
"""Folder of what the torch program gives at every node that is compared, a file for each sample."""
_KEPT_WEIGHTS = 4
"""So many precisions' quantized weights stay in memory, a quarter of the model's size each: formats share them, and so
does the artifact's check."""


class ModelJobs:
    """Does jobs on one model; see `fastserve_converters.worker.jobs`."""

    def __init__(self, source: ModelSource) -> None:
        self._source = source
        # By the calibration file itself: folders of links to it are many.
        self._calibration_of = lru_cache(maxsize=1)(source.calibration)
        self._rounder_of = lru_cache(maxsize=1)(self._rounder)
        self._weights_of = lru_cache(maxsize=_KEPT_WEIGHTS)(self._made_weights)
        self.handlers: Mapping[str, Handler] = {
            "pass": run_pass,
            "reference": self._source.reference,
            "program": self._program,
            "sensitivity": self._sensitivity,
            "artifact": self._artifact,
            "lowering": self._lowering,
            "fake_quant_reference": self._fake_quant_reference,
            "layer_errors": self._layer_errors,
            "with_intermediates_artifact": self._with_intermediates_artifact,
        }

    def _program(self, request: Mapping[str, Any], out: Path) -> Any:
        """Prove the model equal to the original on the reference's own inputs, and export a traced part's program."""
        difference = self._source.prove(Path(request["reference"]))
        part = self._part
        document = {
            "largest_difference": difference,
            "modules": [[name, type(module).__name__] for name, module in part.module.named_modules()],
        }
        if part.form == "traced":
            import torch

            torch.export.save(part.fixed.program, out / PROGRAM)
            document = {**signature_document(part.fixed.signature), **document}
        return _written(document, out / SIGNATURE)

    def _sensitivity(self, request: Mapping[str, Any], out: Path) -> Any:
        """Score every layer in the schemes that a format's mixed precision may give it."""
        from fastserve_converters.models.samples import count
        from fastserve_converters.quantization.assignment import units_document
        from fastserve_converters.quantization.layers import check_finite
        from fastserve_converters.quantization.sensitivity import sensitivities

        precision_spec = self._format_and_plan(request)[1]
        assert precision_spec.choices is not None
        part = self._part
        check_finite(part.module)
        samples = self._calibration(precision_spec, request)
        units = sensitivities(part, precision_spec.choices, precision_spec.activations, samples)
        layers = {name for unit in units for name in unit.layers}
        # A weight that two layers share is listed once, under the first one's name.
        rest = [p for name, p in part.module.named_parameters() if name.removesuffix(".weight") not in layers]
        document = {
            "samples": min(count(samples), part.max_scored),
            "other_bytes": sum(4 * p.numel() for p in rest),
            "units": units_document(units),
        }
        return _written(document, out / SENSITIVITY)

    def _artifact(self, request: Mapping[str, Any], out: Path) -> Any:
        from fastserve_converters.models.samples import count
        from fastserve_converters.quantization.recipe import recipe_document

        exporter, precision_spec = self._format_and_plan(request)
        job = self._export_job(precision_spec, request, out)
        document = {
            **exported(exporter, job).as_document(),
            "recipe": recipe_document(precision_spec, request["assignment"], count(job.calibration), job.range_method),
        }
        return _written(document, out / ARTIFACT)

    def _with_intermediates_artifact(self, request: Mapping[str, Any], out: Path) -> Any:
        """Export again: as it was exported, and so that what the file keeps inside becomes outputs."""
        exporter, precision_spec = self._format_and_plan(request)
        job = self._export_job(precision_spec, request, out)
        with_intermediates = intermediates_exporter(exporter, self._part.form)
        assert with_intermediates is not None  # asked for of those that offer it
        artifact = exported(exporter, job)
        return {
            "model": artifact.files[0],
            "with_intermediates": with_intermediates.INTERMEDIATES_MODEL,
            "intermediates": [
                intermediate.as_document() for intermediate in with_intermediates.export_with_intermediates(job)
            ],
        }

    def _lowering(self, request: Mapping[str, Any], out: Path) -> Any:
        """Make a target's own artifact, and run the same quantized graph on an executor that is trusted."""
        from fastserve_converters.lowerings import check_lowering_installed, parts_taken
        from fastserve_converters.worker.lowering_job import lower

        lowering = check_lowering_installed(request["target"])
        check_takes(f"The lowering for {lowering.TARGET}", parts_taken(lowering), self._part.form)
        check_precision(lowering.TARGET, lowering.PRECISIONS, request["precision"])
        job = self._export_job(lowering.PRECISIONS[request["precision"]], request, out)
        return _written(lower(lowering, job, Path(request["reference"]) / INPUTS), out / ARTIFACT)

    def _export_job(self, precision_spec: Precision, request: Mapping[str, Any], out: Path) -> ExportJob[Any]:
        from fastserve_converters.models import calibration
        from fastserve_converters.quantization import evidence, fake_quant_reference

        part = self._part
        looks_at_samples = part.form == "traced" and precision_spec.looks_at_samples
        if part.form == "traced" and precision_spec.looks_at_samples and not part.is_batch_first:
            raise EnvironmentFailure(
                f"{request['precision']} is judged sample by sample, and the model's batch is not its first axis.",
                "Let the module take its batch first, such as by batch_first=True, or export fp32.",
            )
        few = max(evidence.SAMPLES, fake_quant_reference.SAMPLES)
        return ExportJob(
            part=part.with_axes(is_open=precision_spec.has_dynamic_length),
            precision=request["precision"],
            precision_spec=precision_spec,
            weights=self._quantized(precision_spec, request),
            calibration=self._calibration(precision_spec, request),
            samples=calibration.first_inputs(Path(request["reference"]), few) if looks_at_samples else {},
            range_method=precision_spec.range_method(request["range_method"]),
            base=Path(request["base"]) if request.get("base") else None,
            out=out,
            prompts=request.get("prompts") or {},
        )

    def _fake_quant_reference(self, request: Mapping[str, Any], out: Path) -> Any:
        """Compare an artifact's outputs with those of its fake-quant reference: the same quantized model elsewhere."""
        import math

        from fastserve_converters.models.samples import count, read_samples_file
        from fastserve_converters.quantization import fake_quant_reference
        from fastserve_converters.quantization.fake_quant import fake_quantized

        precision_spec = self._format_and_plan(request)[1]
        part = self._part
        recorded = fake_quant_reference.read_outputs(Path(request["artifact"]))
        rows = part.compared(request["evaluation"]) if recorded is None else slice(count(recorded[0]))
        given, outputs = (
            {name: values[rows] for name, values in read_samples_file(file).items()}
            for file in (Path(request["reference"]) / INPUTS, Path(request["outputs"]))
        )
        actual = part.by_sample(outputs, given)
        if recorded is not None:
            found = [fake_quant_reference.comparison(recorded[0], actual, recorded[1])]
        else:
            executor = "the same quantized weights in PyTorch" + (
                ", activations in float" if precision_spec.has_static_ranges else ""
            )
            weights = part.expanded(self._quantized(precision_spec, request))
            found = []
            for activations in dict.fromkeys((precision_spec.activations, *part.also_compared)):
                with fake_quantized(part.module, weights, activations):
                    found.append(fake_quant_reference.comparison(part.evaluate(given), actual, executor))
        # Engines may round activations in one of several ways: whichever is nearest counts.
        nearest = max(found, key=lambda document: math.inf if document["sqnr_db"] is None else document["sqnr_db"])
        return _written(nearest, out / FAKE_QUANT_REFERENCE)

    def _layer_errors(self, request: Mapping[str, Any], out: Path) -> Any:
        """Compare what was recorded inside an artifact with the program; see `layer_errors`."""
        from fastserve_converters.diagnosis.layer_errors import Recorded, layer_errors
        from fastserve_converters.layer_map import intermediate_of

        recordings = [
            Recorded(
                Path(r["folder"]),
                {int(number): intermediate_of(intermediate) for number, intermediate in r["intermediates"].items()},
            )
            for r in request["recordings"]
        ]
        part = self._part.with_axes(is_open=request["has_dynamic_length"])
        graph_module: Any = part.program.module(check_guards=False)
        modules = [name for name, _ in part.module.named_modules()]
        found = layer_errors(graph_module, modules, recordings, request["samples"], out / TRACE)
        return {**found, "peak": read_memory().peak}

    def _calibration(self, precision_spec: Precision, request: Mapping[str, Any]) -> Samples:
        """Return the calibration inputs, or nothing where a precision needs none."""
        if not precision_spec.needs_calibration:
            return {}
        try:
            return self._calibration_of(_calibration_file(request))
        except UsageError:
            if precision_spec.can_do_without_calibration:
                return {}
            raise

    def _quantized(self, precision_spec: Precision, request: Mapping[str, Any]) -> dict[str, QuantizedWeight]:
        """Return the quantized weights of a precision."""
        from fastserve_converters.precisions import has_fake_quant_reference
        from fastserve_converters.quantization.layers import assignment

        if has_fake_quant_reference(precision_spec) and not precision_spec.has_static_ranges and not self._part.layers:
            raise EnvironmentFailure(
                f"{request['precision']} would quantize nothing: the model has no linear layer and no embedding.",
                "Export fp32 or fp16, or int8-static, which also takes convolutions.",
            )
        schemes = assignment(self._part, precision_spec, request["assignment"])
        return self._weights_of(precision_spec.rounding, _calibration_file(request), tuple(schemes.items()))

    def _made_weights(
        self, rounding: str, calibration: Path, schemes: tuple[tuple[str, WeightScheme], ...]
    ) -> dict[str, QuantizedWeight]:
        from fastserve_converters.quantization.layers import quantized_weights

        return quantized_weights(
            self._part,
            dict(schemes),
            rounding,
            rounder=lambda: self._rounder_of(calibration),
            stored=self._source.stored_weights,
        )

    def _rounder(self, calibration: Path) -> Rounder:
        from fastserve_converters.quantization.gptq import Rounder

        return Rounder(self._part, self._calibration_of(calibration))

    def _format_and_plan(self, request: Mapping[str, Any]) -> tuple[Format, Precision]:
        exporter = check_installed(request["format"])
        return exporter, plan_of(exporter, self._part.form, request["precision"])

    @property
    def _part(self) -> Part:
        return self._source.model().only_part


def _calibration_file(request: Mapping[str, Any]) -> Path:
    return (Path(request["reference"]) / CALIBRATION).resolve()


def _written(document: dict[str, Any], file: Path) -> dict[str, Any]:
    file.write_text(json.dumps(document))
    return document
