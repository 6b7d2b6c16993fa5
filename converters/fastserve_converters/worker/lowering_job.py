"""The job that makes a target's own artifact from a torch program, with the outputs of an executor that is trusted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastserve_converters.models.outputs import joined_outputs
from fastserve_converters.models.samples import count, single_samples
from fastserve_converters.quantization.recipe import recipe_document

if TYPE_CHECKING:
    from fastserve_converters.formats import ExportJob
    from fastserve_converters.lowerings import Lowering

TRUSTED_OUTPUTS = "outputs.npz"
"""Beside a lowered artifact: what the trusted executor gives for all inputs, in the form of a measurement's outputs."""
REPORT = "report.json"
"""Beside a lowered artifact: what its compiler told."""


def lower(lowering: Lowering, job: ExportJob[Any], inputs_file: Path) -> dict[str, Any]:
    """Make a target's artifact and run the same quantized graph on all inputs of the reference.

    Args:
        lowering: for the target.
        job: what is lowered, and the folder for the files.
        inputs_file: `.npz` file of the inputs of evaluation and golden samples, padded.

    Returns:
        The artifact's document: an exporter's, with `trusted_executor` and `report`.
    """
    lowered = lowering.lower(job)
    with np.load(inputs_file, allow_pickle=False) as arrays:
        inputs = {name: arrays[name] for name in arrays.files}
    outputs: dict[str, Any] = joined_outputs(lowered.trusted(sample) for sample in single_samples(inputs))
    np.savez(job.out / TRUSTED_OUTPUTS, **outputs)
    report = dict(lowered.report)
    (job.out / REPORT).write_text(json.dumps(report))
    samples = count(job.calibration)
    return {
        **lowered.artifact.as_document(),
        "recipe": recipe_document(job.precision_spec, None, samples, job.range_method),
        "trusted_executor": lowered.trusted_executor,
        "report": report,
    }
