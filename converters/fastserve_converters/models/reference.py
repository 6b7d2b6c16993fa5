"""The reference: the trained model's own outputs on real inputs, which everything is compared with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.class_labels import check_outputs
from fastserve_converters.checkpoints.task import TASKS, Task
from fastserve_converters.inputs import LoadedCheckpoint, PreparedInputs
from fastserve_runtime.errors import UsageError

if TYPE_CHECKING:
    import torch

    Arrays = Mapping[str, NDArray[np.generic]]

INPUTS = "inputs.npz"
OUTPUTS = "reference.npz"
CALIBRATION = "calibration.npz"
DESCRIPTION = "reference.json"
KNOWN = "known.npz"
"""What quality is judged by beside inputs and outputs, for each evaluation window."""
_BATCH = 32


def build_reference(out: Path, model: LoadedCheckpoint, prepared: PreparedInputs) -> dict[str, Any]:
    """Run a checkpoint's original model on evaluation and golden inputs and write what later steps need.

    See `write_reference`.

    Raises:
        UsageError: the model gives values that are not finite, or another number of them than it has labels.
    """
    task: Task = TASKS.load(model.checkpoint.task)
    inputs = prepared.joined
    check_label_count(task, model.model, model.checkpoint, inputs)
    outputs = run_original(task, model.model, model.checkpoint, inputs)
    return write_reference(out, prepared, outputs, task.settings(model.checkpoint))


def write_reference(
    out: Path,
    prepared: PreparedInputs,
    outputs: Arrays,
    task_settings: Mapping[str, Any],
    inputs: Arrays | None = None,
) -> dict[str, Any]:
    """Write what later steps need to know of the original model.

    Args:
        out: gets the inputs of evaluation and golden samples (one after the other; an evaluation sample may have
            several rows), what is known of the evaluation rows beside, the outputs, the calibration inputs, and a
            description.
        prepared: the inputs.
        outputs: of the model for the inputs, by name, shape [rows, ...].
        task_settings: what the task's pipeline needs to know.
        inputs: what the model was run on, where that is not `prepared.joined`.

    Returns:
        The description.
    """
    save_arrays(out / INPUTS, prepared.joined if inputs is None else inputs)
    save_arrays(out / CALIBRATION, prepared.calibration)
    save_arrays(out / KNOWN, prepared.known)
    save_arrays(out / OUTPUTS, outputs)
    description = {
        "task_settings": dict(task_settings),
        "preprocessing": dict(prepared.preprocessing),
        "evaluation": len(next(iter(prepared.evaluation.values()))),
        "evaluation_samples": prepared.samples,
        "calibration": prepared.calibration_samples,
        "labels": prepared.labels,
        "goldens": [dict(golden) for golden in prepared.goldens],
        "notes": list(prepared.notes),
    }
    (out / DESCRIPTION).write_text(json.dumps(description))
    return description


def run_original(
    task: Task, model: torch.nn.Module, checkpoint: Checkpoint, inputs: Mapping[str, NDArray[np.generic]]
) -> dict[str, NDArray[np.generic]]:
    """Run the untouched model on all samples and return its outputs by name, shape [n, ...].

    Batches hold texts of like length and are padded no further than they need.
    """
    import torch

    tensors = {name: torch.from_numpy(value.astype(np.int64)) for name, value in inputs.items()}
    mask = tensors["attention_mask"]
    order = torch.argsort(mask.sum(1), stable=True)
    wanted = task.outputs(checkpoint)
    results: dict[str, dict[int, torch.Tensor]] = {output.name: {} for output in wanted}
    with torch.inference_mode():
        for rows in torch.split(order, _BATCH):
            longest = int(mask[rows].sum(1).max())
            batch = {name: value[rows, :longest] for name, value in tensors.items()}
            outputs = task.reference_outputs(model, checkpoint, batch)
            for output in wanted:
                values = outputs[output.name]
                if output.by_token:
                    behind = [0, 0] * (values.ndim - 2) + [0, mask.shape[1] - longest]
                    values = torch.nn.functional.pad(values, behind)
                results[output.name] |= {int(row): value for row, value in zip(rows, values, strict=True)}
    joined = {name: torch.stack([rows[i] for i in range(len(mask))]) for name, rows in results.items()}
    if not all(bool(torch.isfinite(values).all()) for values in joined.values()):
        raise UsageError("The model gives values that are not finite on the evaluation texts.", "Check its weights.")
    return {name: values.numpy() for name, values in joined.items()}


def check_label_count(
    task: Task, model: torch.nn.Module, checkpoint: Checkpoint, inputs: Mapping[str, NDArray[np.generic]]
) -> None:
    """Compare the number of labels with what the model gives for one text.

    Raises:
        UsageError: they differ.
    """
    if checkpoint.labels:
        outputs = run_original(task, model, checkpoint, {name: value[:1] for name, value in inputs.items()})
        check_outputs(checkpoint.labels, next(iter(outputs.values())).shape[-1])


def save_arrays(file: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays by name to an `.npz` file."""
    np.savez(file, **arrays)
