"""Kind `tensors`: a model's named tensors, read of `.npz` files and held against the model's inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.inputs import GivenData, PreparedInputs
from fastserve_runtime.bundle.axes import batch_place
from fastserve_runtime.bundle.tensor_specs import Signature
from fastserve_runtime.errors import InputError, UsageError
from fastserve_runtime.preprocessors.kinds.tensors import KIND
from fastserve_runtime.sessions.sample_axes import as_call
from fastserve_runtime.sessions.tensors import checked_inputs

SUFFIX = ".npz"
Arrays = Mapping[str, NDArray[np.generic]]
GOLDENS = 10
_EVALUATION_SHARE = 0.6
_MAX_EVALUATION = 400
_MAX_CALIBRATION = 256


@dataclass(frozen=True)
class Tensors:
    """A model of named tensors, as its inputs are made for it.

    Attributes:
        signature: what it takes.
        example: the inputs that it was exported with, shape [1, ...] each, which are taken where no data was given;
            empty before the model is loaded.
    """

    signature: Signature
    example: Arrays = field(default_factory=dict)


def read(data: GivenData, model: Tensors) -> dict[str, NDArray[np.generic]]:
    """Read samples and hold them against the model's inputs; without files, none. See `InputKind`."""
    return checked_samples(read_tensor_samples(data.files.paths), model.signature) if data.files.paths else {}


def divide(samples: Arrays, model: Tensors, seed: int) -> TensorSplit:
    """Divide samples, or the example where there are none; see `InputKind`."""
    return split_tensors(samples or checked_samples(model.example, model.signature), seed)


def prepare(divided: TensorSplit, model: Tensors, out: Path) -> PreparedInputs:  # noqa: ARG001 -- needs no files
    """Take tensors as they are, and choose golden ones; see `InputKind`."""
    goldens = golden_tensors(divided.evaluation)
    count = len(next(iter(divided.evaluation.values())))
    return PreparedInputs(
        preprocessing={"kind": KIND, "settings": {}},
        evaluation=divided.evaluation,
        golden=goldens.inputs,
        calibration=divided.calibration,
        goldens=goldens.descriptions,
        samples=count,
        calibration_samples=len(next(iter(divided.calibration.values()))),
        notes=() if count > 1 else ("Quality was judged on one sample: give more with --data, as an .npz file.",),
    )


@dataclass(frozen=True)
class TensorSplit:
    """Samples by name, shape [samples, ...] each, for judging a model and for setting its scales.

    Attributes:
        rows: where each of the evaluation samples stands in the user's data.
    """

    evaluation: Arrays
    calibration: Arrays
    rows: tuple[int, ...] = ()


@dataclass(frozen=True)
class GoldenTensors:
    """Golden samples: the first of the evaluation ones, and zeros, which no data has.

    Attributes:
        inputs: by name, shape [samples, ...].
        descriptions: of each `text` (none), `kind` and `realistic`, as a reference tells of its goldens.
    """

    inputs: Arrays
    descriptions: tuple[Mapping[str, Any], ...]


def read_tensor_samples(files: Sequence[Path]) -> dict[str, NDArray[np.generic]]:
    """Read samples from files, one behind the other.

    Raises:
        UsageError: a file is no `.npz` file without pickles, or files do not go together.
    """
    parts: list[dict[str, NDArray[np.generic]]] = []
    for file in files:
        if file.suffix != SUFFIX:
            raise UsageError(
                f"'{file.name}' holds no tensors: samples of a program are given as {SUFFIX} files.",
                "Write them with numpy.savez, an array for every input, samples along the first axis.",
            )
        if not file.is_file():
            raise UsageError(f"There is no file of samples '{file}'.", "Check the path.")
        try:
            with np.load(file, allow_pickle=False) as arrays:
                parts.append({name: arrays[name] for name in arrays.files})
        except Exception as error:  # numpy and zipfile raise a dozen kinds for damaged files
            raise UsageError(f"'{file.name}' cannot be read: {error}.", "Write it with numpy.savez again.") from error
    try:
        return {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else ())}
    except (KeyError, ValueError) as error:
        raise UsageError(f"The files of samples do not go together: {error}.", "Give arrays of one shape.") from error


def checked_samples(samples: Arrays, signature: Signature) -> dict[str, NDArray[np.generic]]:
    """Return samples in the types and the order of a signature's inputs.

    Raises:
        UsageError: an input is missing or unknown, has another number of samples, is of a shape or a type that the
            model does not take, or has a value that is not finite.
    """
    counts = {name: len(value) if value.ndim else 0 for name, value in samples.items()}
    if not counts or 0 in counts.values() or len(set(counts.values())) != 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
        raise UsageError(
            f"The samples have other numbers along their first axis: {told}.",
            "Give an array for every input, samples along the first axis, at least one.",
        )
    rows = []
    for row in range(next(iter(counts.values()))):
        single = {name: value[row : row + 1] for name, value in samples.items()}
        try:
            given = checked_inputs(signature, as_call(single, signature))
        except InputError as error:
            raise UsageError(
                f"The samples do not fit the model's inputs. Sample {row}: {error.problem}", error.remedy
            ) from error
        rows.append(given)
    joined = {spec.name: _stacked([row[spec.name] for row in rows], batch_place(spec)) for spec in signature.inputs}
    name = not_finite(joined)
    if name is not None:
        raise UsageError(f"The samples of '{name}' have values that are not finite.", "Leave such samples out.")
    return joined


def not_finite(arrays: Arrays) -> str | None:
    """Return the name of the first array that has values that are not finite; None where all are."""
    return next((n for n, v in arrays.items() if v.dtype.kind == "f" and not bool(np.isfinite(v).all())), None)


def split_tensors(samples: Arrays, seed: int) -> TensorSplit:
    """Shuffle by the seed and divide: 60 % for evaluation, at most 400, and what is left for calibration."""
    count = len(next(iter(samples.values())))
    order = np.random.default_rng(seed).permutation(count)
    evaluation = min(max(1, round(count * _EVALUATION_SHARE)), _MAX_EVALUATION)
    first, rest = order[:evaluation], order[evaluation : evaluation + _MAX_CALIBRATION]
    judging, setting = ({name: value[rows] for name, value in samples.items()} for rows in (first, rest))
    return TensorSplit(judging, setting, tuple(first.tolist()))


def golden_tensors(evaluation: Arrays) -> GoldenTensors:
    """Return golden samples; see `GoldenTensors`."""
    few = {name: value[:GOLDENS] for name, value in evaluation.items()}
    count = len(next(iter(few.values())))
    inputs = {name: np.concatenate([value, np.zeros_like(value[:1])]) for name, value in few.items()}
    typical = {"text": "", "kind": "sample", "realistic": True}
    zeros = {"text": "", "kind": "zeros", "realistic": False}
    return GoldenTensors(inputs, (*([typical] * count), zeros))


def _stacked(rows: Sequence[NDArray[np.generic]], place: int | None) -> NDArray[np.generic]:
    if place is None:
        return np.stack(rows)
    return np.concatenate([np.moveaxis(row, place, 0) for row in rows])
