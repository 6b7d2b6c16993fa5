"""What a user's data becomes before a model runs: one module a kind of preprocessing, by the manifest's name for it.

A kind makes samples of the columns of the data, and of samples the tensors that a model is judged on, calibrated with
and shipped with. What makes the same tensors on a device stands in the runtime's `preprocessors.kinds`, under the same
name. Third parties add theirs by the entry-point group `fastserve.inputs`, and a task names its own in `INPUTS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.task import Task
from fastserve_converters.columns import Columns
from fastserve_converters.data import Table, read_tables
from fastserve_runtime.bundle.raw_inputs import TEXT_PAIR, TOKENIZER
from fastserve_runtime.plugins import PartFolder

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from fastserve_converters.data import Label

    Arrays = Mapping[str, NDArray[np.generic]]
    """Tensors by name, shape [samples, ...]."""

INPUTS = PartFolder("fastserve_converters.inputs", "fastserve.inputs", "kind of input")


@dataclass(frozen=True)
class DataFiles:
    """The files of a user's data, none, one or several; tables are read when they are asked for, once."""

    paths: tuple[Path, ...] = ()

    @cached_property
    def tables(self) -> Sequence[Table]:
        """Their content, where they are tables.

        Raises:
            UsageError: a file is missing, of an unknown kind, empty or malformed.
            EnvironmentFailure: a file cannot be opened, or its kind needs a library that is not installed.
        """
        return read_tables(self.paths)


@dataclass(frozen=True)
class GivenData:
    """A user's data.

    Attributes:
        files: none of them: what ships with this package, or the model's own example, is taken.
        columns: which are read, of files that have some.
    """

    files: DataFiles = field(default_factory=DataFiles)
    columns: Columns = field(default_factory=Columns)


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint's model, as its inputs are made for it.

    Attributes:
        checkpoint: its description.
        model: in memory.
        length: tokens that it is exported for.
    """

    checkpoint: Checkpoint
    model: torch.nn.Module
    length: int


@dataclass(frozen=True)
class PreparedInputs:
    """What a reference is made with.

    Attributes:
        preprocessing: how the device makes such tensors: `kind` and `settings` of a manifest's preprocessing.
        evaluation: of the samples that quality is judged on; a sample may have several rows.
        golden: of the samples that ship with a bundle.
        calibration: of the samples that scales are set by.
        goldens: of each golden sample `text`, `kind`, `realistic`, and of a pair `pair`.
        samples: how many samples the evaluation has.
        calibration_samples: how many the calibration has.
        known: what quality is judged by beside inputs and outputs, for each row of the evaluation.
        labels: of the evaluation samples; None where a sample has none.
        notes: what the user should know, in sentences.
    """

    preprocessing: Mapping[str, Any]
    evaluation: Arrays
    golden: Arrays
    calibration: Arrays
    goldens: Sequence[Mapping[str, Any]]
    samples: int
    calibration_samples: int
    known: Arrays = field(default_factory=dict)
    labels: Sequence[Label] | None = None
    notes: tuple[str, ...] = ()

    @property
    def joined(self) -> dict[str, NDArray[np.generic]]:
        """The rows of the evaluation, followed by the golden ones."""
        import numpy as np

        return {name: np.concatenate([rows, self.golden[name]]) for name, rows in self.evaluation.items()}

    def without_last_golden(self) -> PreparedInputs:
        """Return the same with one golden sample less."""
        golden = {name: rows[:-1] for name, rows in self.golden.items()}
        return replace(self, golden=golden, goldens=self.goldens[:-1])


Described = TypeVar("Described", contravariant=True)
Loaded = TypeVar("Loaded", contravariant=True)
Samples = TypeVar("Samples")
Divided = TypeVar("Divided")


class InputKind(Protocol[Described, Loaded, Samples, Divided]):
    """What a module here offers.

    A checkpoint's model is described by its `Checkpoint`, loaded it is a `LoadedCheckpoint`; a program is `Tensors`
    either way.
    """

    def read(self, data: GivenData, model: Described) -> Samples:
        """Make samples of a user's data, as is done before anything is loaded, so that bad data is refused early.

        Raises:
            UsageError: the data is not what the model takes, naming the file and the row.
        """

    def divide(self, samples: Samples, model: Described, seed: int) -> Divided:
        """Divide samples into those that quality is judged on and those that scales are set by, shuffled by a seed."""

    def prepare(self, divided: Divided, model: Loaded, out: Path) -> PreparedInputs:
        """Choose golden samples, and make tensors of all.

        Args:
            divided: as `divide` gives them.
            model: what they are for.
            out: a folder for the files that the device needs for the same, such as a tokenizer.

        Raises:
            UsageError: what the model brings for its inputs cannot be used on a device, or the samples are too few.
            EnvironmentFailure: the device's preprocessing and the original's give different tensors.
        """


def inputs_of_task(task: Task, *, takes_pairs: bool = False) -> str:
    """Return the kind of a task's inputs: its `INPUTS`, if any, else texts, or pairs of them where it takes such."""
    own: str | None = getattr(task, "INPUTS", None)
    return own or (TEXT_PAIR if takes_pairs else TOKENIZER)


def input_kind(task: Task, *, takes_pairs: bool = False) -> InputKind[Any, Any, Any, Any]:
    """Return the module of that kind.

    Raises:
        UsageError: there is none.
    """
    kind: InputKind[Any, Any, Any, Any] = INPUTS.load(inputs_of_task(task, takes_pairs=takes_pairs))
    return kind
