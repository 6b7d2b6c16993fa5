"""Judging a variant's quality by its outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastserve.cache.code_digests import code_digest
from fastserve.cache.records import Entry
from fastserve.devices import OUTPUTS
from fastserve.pipeline.own_quality import OWN_QUALITY_NAME, OwnQuality, judged_quality
from fastserve.pipeline.step import Made
from fastserve.pipeline.workshop import Workshop
from fastserve_converters.models.reference import INPUTS, KNOWN
from fastserve_converters.models.reference import OUTPUTS as REFERENCE_OUTPUTS
from fastserve_runtime.conformance.comparison import Comparison
from fastserve_runtime.conformance.quality import Quality
from fastserve_runtime.errors import EnvironmentFailure, UsageError
from fastserve_runtime.plugins import PIPELINES

RAN, REFERENCE, ORIGINAL = "ran", "reference", "original"
"""What it needs: the step that has the outputs, the reference whose inputs these are of, and that of the model that the
user gave. They differ after passes, which may have changed the tokenizer."""
Arrays = dict[str, Any]
"""NumPy arrays by name, samples along the first axis."""
_COMPARISON = "fastserve_runtime.conformance.comparison"


@dataclass(frozen=True)
class Judging:
    """Compares outputs on the evaluation samples with the reference's.

    Attributes:
        task: says what is compared, and how.
        seed: for intervals.
    """

    task: str
    seed: int

    def key(self, made: Made) -> dict[str, Any]:
        """Return the contents of the outputs and of what they are compared with. When they were made counts not."""
        reference, original = made[REFERENCE], made[ORIGINAL]
        return {
            "outputs": made[RAN].files[OUTPUTS],
            "reference": {INPUTS: reference.files[INPUTS], REFERENCE_OUTPUTS: original.files[REFERENCE_OUTPUTS]},
            "evaluation": reference.result["evaluation"],
            "labels": reference.result["labels"],
            "known": reference.files.get(KNOWN),
            "settings": reference.result["task_settings"],
            "seed": self.seed,
            "task": self.task,
            "code": code_digest(_COMPARISON, _quality_of(self.task)),
        }

    def do(self, made: Made, out: Path, workshop: Workshop) -> Any:  # noqa: ARG002
        """Compare them in this process."""
        reference = made[REFERENCE]
        labels, settings = reference.result["labels"], reference.result["task_settings"]
        inputs, expected, actual = compared_arrays(made[RAN], reference, made[ORIGINAL])
        compared = Comparison(expected, actual, inputs | known_of_windows(reference), labels, self.seed, settings)
        return asdict(_quality_of(self.task)(compared))


def _quality_of(task: str) -> Callable[[Comparison], Quality]:
    """Return what judges variants of a task: its pipeline's `quality`.

    Raises:
        UsageError: there is no such pipeline, or it does not say.
    """
    quality: Callable[[Comparison], Quality] | None = getattr(PIPELINES.load(task), "quality", None)
    if quality is None:
        raise UsageError(
            f"The pipeline of the task '{task}' does not say how good a variant is.",
            "Add `quality(compared)` to its module.",
        )
    return quality


def quality_of_own(judge: OwnQuality, ran: Entry, reference: Entry, original: Entry) -> Quality:
    """Return what the user's function makes of outputs on the evaluation samples.

    Raises:
        UsageError: it fails, or gives no finite number.
    """
    inputs, expected, actual = compared_arrays(ran, reference, original)
    value = judged_quality(judge, inputs, expected, actual)
    return Quality(OWN_QUALITY_NAME, value, value, value, reference.result["evaluation"])


def compared_arrays(ran: Entry, reference: Entry, original: Entry) -> tuple[Arrays, Arrays, Arrays]:
    """Return the inputs, the original's outputs and a variant's on the evaluation samples, each by name.

    Raises:
        EnvironmentFailure: what passes left of the model gives other outputs than the original.
    """
    count = reference.result["evaluation"]
    files = (reference.folder / INPUTS, original.folder / REFERENCE_OUTPUTS, ran.folder / OUTPUTS)
    inputs, expected, actual = ({n: v[:count] for n, v in read_arrays(file).items()} for file in files)
    shapes = ({name: values.shape for name, values in arrays.items()} for arrays in (expected, actual))
    if reference is not original and (original.result["evaluation"] != count or next(shapes) != next(shapes)):
        raise EnvironmentFailure(
            "After the passes, the model gives outputs of other shapes than the original, so its quality cannot be "
            "judged by it.",
            "Leave out the pass that changes them.",
        )
    return inputs, expected, actual


def known_of_windows(reference: Entry) -> dict[str, Any]:
    """Return what quality is judged by beside inputs and outputs, for each evaluation window; mostly nothing."""
    return read_arrays(reference.folder / KNOWN) if KNOWN in reference.files else {}


def read_arrays(file: Path) -> dict[str, Any]:
    """Read an `.npz` file without pickles."""
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
