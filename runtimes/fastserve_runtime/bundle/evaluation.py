"""The evaluation samples that ship with a bundle: an `.npz` file without pickles, which all variants share.

Goldens tell whether single outputs are right; these tell whether a variant still does its task. They hold what the
task's metric compares: for hidden states the mean over a text's tokens, not every token's.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from fastserve_runtime.bundle.golden import Arrays, in_group, of_group
from fastserve_runtime.bundle.npz import read_npz
from fastserve_runtime.bundle.reader import Bundle
from fastserve_runtime.errors import BundleError

ROLE = "evaluation"
"""What the manifest calls the file."""
PLACE = "evaluation/samples.npz"
MAX_SAMPLES = 200
GROUPS = ("inputs", "reference")
SEED = 0
"""Of the bootstrap, so that the same outputs give the same interval everywhere."""


@dataclass(frozen=True)
class Evaluation:
    """Samples along the first axis of every array.

    Attributes:
        inputs: by name, shape [n, ...]; one sample is fed at a time.
        reference: what the metric compares of the reference's outputs, by name, shape [n, ...].
    """

    inputs: Arrays
    reference: Arrays

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def first(self, count: int) -> Evaluation:
        """Return the first so many samples, or all where there are fewer."""
        inputs, reference = ({n: v[:count] for n, v in group.items()} for group in (self.inputs, self.reference))
        return Evaluation(inputs, reference)


def compared_values(pipeline: object, outputs: Arrays, inputs: Arrays) -> Arrays:
    """Return what a pipeline's `task_metric` compares of outputs.

    Args:
        pipeline: its module. It may offer `compared_values(outputs, inputs)`, where that is less than the outputs are.
        outputs: by name, shape [n, ...].
        inputs: of the same samples.
    """
    own = getattr(pipeline, "compared_values", None)
    return outputs if own is None else own(outputs, inputs)


def write_evaluation(evaluation: Evaluation) -> bytes:
    """Return the samples as the bytes of an `.npz` file; equal ones give equal bytes."""
    arrays: Arrays = {}
    for group in GROUPS:
        arrays |= in_group(group, getattr(evaluation, group))
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # its keyword arguments are the arrays
    return buffer.getvalue()


def read_evaluation(content: memoryview | bytes) -> Evaluation:
    """Read the samples.

    Raises:
        BundleError: the file is damaged, or its arrays do not fit together.
    """
    try:
        arrays: Arrays = read_npz(io.BytesIO(content))
        inputs, reference = (of_group(group, arrays) for group in GROUPS)
    except Exception as error:  # numpy and zipfile raise a dozen kinds for damaged files
        raise BundleError(f"The evaluation samples are damaged: {error}.", "Export the bundle again.") from error
    parts = [*inputs.values(), *reference.values()]
    if not inputs or not reference or len({part.shape[:1] for part in parts}) != 1 or not all(p.size for p in parts):
        raise BundleError("The evaluation samples do not fit together.", "Export the bundle again.")
    return Evaluation(inputs, reference)


def evaluation_of(bundle: Bundle) -> Evaluation | None:
    """Return a bundle's evaluation samples; None where it has none.

    Raises:
        BundleError: the file is damaged.
    """
    files = [entry.path for entry in bundle.manifest.files.values() if entry.role == ROLE]
    return read_evaluation(bundle.read(files[0])) if files else None
