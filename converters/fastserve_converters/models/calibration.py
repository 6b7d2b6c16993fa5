"""Calibration data is checked before anything rests on it."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastserve_converters.models.reference import INPUTS
from fastserve_converters.models.samples import Samples, batches, first, read_samples_file
from fastserve_converters.models.traced_part import TracedPart
from fastserve_runtime.errors import EnvironmentFailure, UsageError

MIN_SAMPLES = 16
"""Fewer say little about the range of an activation: its extremes come with rare tokens."""


def read(file: Path, length: int) -> dict[str, NDArray[np.generic]]:
    """Read and check the calibration inputs that a reference stage wrote.

    Raises:
        UsageError: they are of no use; see `check`.
    """
    samples = read_samples_file(file)
    check(samples, length)
    return samples


def first_inputs(folder: Path, count: int) -> dict[str, NDArray[np.generic]]:
    """Return the inputs of the first evaluation texts that a reference stage wrote, shape [count, length]."""
    return first(read_samples_file(folder / INPUTS), count)


def check(samples: Samples, length: int) -> None:
    """Refuse calibration inputs that say nothing about the model's use.

    Raises:
        UsageError: they are missing, too few, all the same, or of another shape.
    """
    wanted = ("input_ids", "attention_mask")
    missing = [name for name in wanted if name not in samples]
    if missing:
        raise UsageError(f"The calibration data has no '{missing[0]}'.", f"It must have {' and '.join(wanted)}.")
    for name in samples:
        shape = samples[name].shape
        if len(shape) != 2 or shape[1] != length or shape[0] != len(samples[wanted[0]]):
            raise UsageError(
                f"The calibration data's '{name}' has the shape {list(shape)}; the model takes [samples, {length}].",
                "Make it with the model's own tokenizer and sequence length.",
            )
    ids = samples["input_ids"]
    if len(ids) < MIN_SAMPLES:
        raise UsageError(
            f"There are {len(ids)} calibration samples; at least {MIN_SAMPLES} are needed.",
            "Give more texts with --data: those that are not used to judge quality are used to calibrate.",
        )
    if (ids == ids[0]).all():
        raise UsageError(
            f"All {len(ids)} calibration samples are the same.", "Give texts such as the model will see with --data."
        )
    if not (np.asarray(samples["attention_mask"]) != 0).any(axis=1).all():
        raise UsageError("A calibration sample consists of padding alone.", "Leave out empty texts.")


def check_activations(part: TracedPart, samples: Samples) -> None:
    """Refuse a model whose layers give NaN or infinity on calibration data.

    Raises:
        EnvironmentFailure: naming the first such layer.
    """
    found: list[str] = []

    def look(name: str) -> Callable[[torch.nn.Module, Any, Any], None]:
        def hook(_module: torch.nn.Module, _given: Any, output: Any) -> None:
            if not found and isinstance(output, torch.Tensor) and not _is_finite(output):
                found.append(name)

        return hook

    with ExitStack() as hooks, torch.no_grad():
        for name, layer in part.module.named_modules():
            if not any(layer.children()):
                hooks.callback(layer.register_forward_hook(look(name)).remove)
        for batch in batches(samples, part.batch):
            part.module(**{name: torch.from_numpy(value) for name, value in batch.items()})
            if found:
                raise EnvironmentFailure(
                    f"The layer '{found[0]}' gives values that are not finite on calibration data.",
                    "Such a model cannot be quantized with calibration; look for what that layer is given.",
                )


def _is_finite(values: torch.Tensor) -> bool:
    # One pass, where nearly all are: a sum is finite only if all that is summed is.
    return math.isfinite(float(values.sum())) or bool(torch.isfinite(values).all())
