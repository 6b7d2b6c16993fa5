"""The jobs of an export of an encoder; what was loaded and made stays in memory for the next."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.formats import ExportJob, TappedFormat, check_installed, check_precision
from fastserve_converters.models.dynamic_shapes import dynamic_shapes
from fastserve_converters.models.encoder_signature import example_inputs, signature_of
from fastserve_converters.recent import Recent
from fastserve_converters.worker.job_requests import (
    ARTIFACT,
    KEPT_WEIGHTS,
    SENSITIVITY,
    SIGNATURE,
    TWIN,
    Handler,
    calibration_place,
    checkpoint_of,
    requested_texts,
)
from fastserve_runtime.bundle.manifest import Signature, signature_document
from fastserve_runtime.errors import UsageError
from fastserve_runtime.measurement.memory import read_memory

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from fastserve_converters.checkpoints.model_loading import LoadedModel
    from fastserve_converters.models.edge_form import EdgeForm
    from fastserve_converters.precisions import Precision
    from fastserve_converters.quantization.weights import QuantizedWeight

PROGRAM = "program.pt2"
TWIN_SAMPLES = 64
TRACE = "trace"
"""Folder of what the torch program gives at every place that is compared, a file for each sample."""
_PROOF_SAMPLES = 16


class EncoderJobs:
    """Does jobs on one encoder; see `fastserve_converters.worker.jobs`."""

    def __init__(self, source: Mapping[str, Any]) -> None:
        self._source = source
        self._model: LoadedModel | None = None
        self._edge_form: EdgeForm | None = None
        self._programs: dict[bool, torch.export.ExportedProgram] = {}
        self._calibrations: dict[str, dict[str, NDArray[np.generic]]] = {}
        self._signatures: dict[bool, Signature] = {}
        self._weights: Recent[dict[str, QuantizedWeight]] = Recent(KEPT_WEIGHTS)
        self.handlers: Mapping[str, Handler] = {
            "reference": self._reference,
            "program": self._export_program,
            "sensitivity": self._sensitivity,
            "artifact": self._artifact,
            "lowering": self._lowering,
            "twin": self._twin,
            "layer_errors": self._layer_errors,
            "tapped_artifact": self._tapped_artifact,
        }

    def _reference(self, request: Mapping[str, Any], out: Path) -> Any:
        from fastserve_converters.models.reference import build_reference

        checkpoint = self._checkpoint()
        started = time.perf_counter()
        loaded = self._loaded()
        load_seconds = time.perf_counter() - started
        split = requested_texts(request, checkpoint)
        description = build_reference(out, checkpoint, loaded.model, split, self._length)
        notes = [*loaded.notes, *description["notes"]]
        return {**description, "notes": notes, "load_seconds": load_seconds}

    def _export_program(self, request: Mapping[str, Any], out: Path) -> Any:
        """Export the edge form, after proving it equal to the original on the reference's own inputs."""
        import numpy as np
        import torch

        from fastserve_converters.models.edge_form import prove_equal
        from fastserve_converters.models.reference import INPUTS, OUTPUTS

        edge_form = self._edge()
        folder = Path(request["reference"])
        with np.load(folder / INPUTS) as inputs, np.load(folder / OUTPUTS) as outputs:
            # Spread over the evaluation texts, and the goldens at the end with their extremes.
            count = len(inputs["input_ids"])
            rows = sorted({int(i) for i in np.linspace(0, count - 1, _PROOF_SAMPLES)} | set(range(count - 4, count)))
            tensors = {name: torch.from_numpy(inputs[name][rows]) for name in inputs.files}
            expected = torch.from_numpy(outputs[edge_form.output][rows])
        difference = prove_equal(edge_form, tensors, expected)
        program = self._exported(has_dynamic_length=False)
        torch.export.save(program, out / PROGRAM)
        signature = self._signature(has_dynamic_length=False)
        document = {
            **signature_document(signature),
            "largest_difference": difference,
            "modules": [[name, type(module).__name__] for name, module in edge_form.named_modules()],
        }
        (out / SIGNATURE).write_text(json.dumps(document))
        return document

    def _sensitivity(self, request: Mapping[str, Any], out: Path) -> Any:
        """Score every layer in the schemes that a format's mixed precision may give it."""
        from fastserve_converters.quantization import sensitivity
        from fastserve_converters.quantization.assignment import units_document
        from fastserve_converters.quantization.layers import check_finite

        exporter = check_installed(request["format"])
        check_precision(exporter.NAME, exporter.PRECISIONS, request["precision"])
        plan = exporter.PRECISIONS[request["precision"]]
        assert plan.choices is not None
        edge_form = self._edge()
        check_finite(edge_form)
        samples = self._calibration(plan, request)
        units = sensitivity.sensitivities(edge_form, plan.choices, plan.activations, samples)
        layers = {name for unit in units for name in unit.layers}
        rest = [p for name, p in edge_form.named_parameters() if name.removesuffix(".weight") not in layers]
        document = {
            "samples": min(len(samples["input_ids"]), sensitivity.MOST_SAMPLES),
            "other_bytes": sum(4 * p.numel() for p in rest),
            "units": units_document(units),
        }
        (out / SENSITIVITY).write_text(json.dumps(document))
        return document

    def _artifact(self, request: Mapping[str, Any], out: Path) -> Any:
        from fastserve_converters.quantization.recipe import recipe_document

        exporter = check_installed(request["format"])
        check_precision(exporter.NAME, exporter.PRECISIONS, request["precision"])
        plan = exporter.PRECISIONS[request["precision"]]
        job = self._export_job(plan, request, out)
        document = {
            **exporter.export(job).as_document(),
            "recipe": recipe_document(
                plan, request["assignment"], len(job.calibration.get("input_ids", ())), job.range_method
            ),
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
        return lower(lowering, job, Path(request["reference"]) / INPUTS, self._edge().output)

    def _export_job(self, plan: Precision, request: Mapping[str, Any], out: Path) -> ExportJob:
        from fastserve_converters.quantization import calibration, evidence, twin

        edge_form = self._edge()
        samples = self._calibration(plan, request)
        return ExportJob(
            module=edge_form,
            program=self._exported(has_dynamic_length=plan.has_dynamic_length),
            signature=self._signature(has_dynamic_length=plan.has_dynamic_length),
            example=self._example(),
            precision=request["precision"],
            plan=plan,
            weights=self._quantized(plan, request),
            calibration=samples,
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
        """Compare an artifact's outputs on evaluation texts with those of the same quantized model elsewhere."""
        import numpy as np

        from fastserve_converters.models.reference import INPUTS
        from fastserve_converters.quantization import twin
        from fastserve_converters.quantization.fake_quant import fake_quantized, run_batches

        exporter = check_installed(request["format"])
        plan = exporter.PRECISIONS[request["precision"]]
        edge_form = self._edge()
        recorded = twin.read_outputs(Path(request["artifact"]))
        count = TWIN_SAMPLES if recorded is None else len(recorded[0])
        with np.load(Path(request["reference"]) / INPUTS) as inputs, np.load(request["outputs"]) as outputs:
            few = {name: inputs[name][:count] for name in inputs.files}
            actual = outputs[edge_form.output][:count]
        if recorded is None:
            with fake_quantized(edge_form, self._quantized(plan, request), plan.activations):
                rounding = ", activations in float" if plan.has_static_ranges else ""
                recorded = run_batches(edge_form, few), f"the same integers in PyTorch{rounding}"
        document = twin.comparison(recorded[0], actual, few, recorded[1])
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
        graph_module: Any = self._exported(has_dynamic_length=request["has_dynamic_length"]).module(check_guards=False)
        modules = [name for name, _ in self._edge().named_modules()]
        found = layer_errors(graph_module, modules, recordings, request["samples"], out / TRACE)
        return {**found, "peak": read_memory().peak}

    def _calibration(self, plan: Precision, request: Mapping[str, Any]) -> dict[str, NDArray[np.generic]]:
        """Return the calibration inputs, looked at once for each reference, or nothing where a precision needs none."""
        from fastserve_converters.quantization import calibration
        from fastserve_converters.quantization.layers import check_activations

        if not plan.needs_calibration:
            return {}
        place = calibration_place(request)
        if place not in self._calibrations:
            try:
                samples = calibration.read(Path(request["reference"]), self._length)
            except UsageError:
                if plan.can_do_without_calibration:
                    return {}
                raise
            check_activations(self._edge(), samples)
            self._calibrations[place] = samples
        return self._calibrations[place]

    def _quantized(self, plan: Precision, request: Mapping[str, Any]) -> dict[str, QuantizedWeight]:
        """Return the integers of a precision; the last few are kept."""
        from fastserve_converters.quantization import layers

        edge_form = self._edge()
        assignment = layers.assignment(edge_form, plan, request["assignment"])
        key = (plan.rounding, calibration_place(request), frozenset(assignment.items()))

        def made() -> dict[str, QuantizedWeight]:
            samples = self._calibration(plan, request)
            return layers.quantized_weights(edge_form, assignment, plan.rounding, samples)

        return self._weights.get(key, made)

    @property
    def _length(self) -> int:
        length: int = self._source["length"]
        return length

    def _checkpoint(self) -> Checkpoint:
        return checkpoint_of(self._source)

    def _loaded(self) -> LoadedModel:
        """Return the untouched model. Making the edge form uses it up."""
        from fastserve_converters.checkpoints.model_loading import load_with_notes

        if self._model is None:
            self._model = load_with_notes(self._checkpoint(), trust_remote_code=self._source["trust_remote_code"])
        return self._model

    def _edge(self) -> EdgeForm:
        from fastserve_converters.models.edge_form import build_edge_form

        if self._edge_form is None:
            model, self._model = self._loaded().model, None
            self._edge_form = build_edge_form(model, self._checkpoint(), self._length)
        return self._edge_form

    def _example(self) -> dict[str, torch.Tensor]:
        return example_inputs(self._length, self._edge().more_inputs)

    def _exported(self, *, has_dynamic_length: bool) -> torch.export.ExportedProgram:
        import torch

        if has_dynamic_length not in self._programs:
            signature = self._signature(has_dynamic_length=has_dynamic_length)
            example = self._example()
            self._programs[has_dynamic_length] = torch.export.export(
                self._edge(), (), example, dynamic_shapes=dynamic_shapes(signature)
            )
        return self._programs[has_dynamic_length]

    def _signature(self, *, has_dynamic_length: bool) -> Signature:
        if has_dynamic_length not in self._signatures:
            self._signatures[has_dynamic_length] = signature_of(
                self._edge(), self._length, has_dynamic_length=has_dynamic_length
            )
        return self._signatures[has_dynamic_length]
