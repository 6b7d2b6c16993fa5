"""Calibration data is checked before anything rests on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.models.reference import INPUTS
from fastserve_converters.models.samples import Samples, first, read_samples_file
from fastserve_runtime.errors import UsageError

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
