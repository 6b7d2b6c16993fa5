"""Where models come from: one module for each kind, found by name and imported when used.

A kind knows how what a job's `source` names is loaded, what the truth is that everything is compared with, and which
parts it is exported as. All that follows (scoring and rounding layers, artifacts, lowerings, comparisons) is done with
the parts. Third parties add theirs by the entry-point group `fastserve.model_sources`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fastserve_converters.checkpoints.task import TASKS, Task
from fastserve_runtime.plugins import PartFolder

if TYPE_CHECKING:
    from fastserve_converters.models.model import Form, Model
    from fastserve_converters.models.samples import Samples
    from fastserve_converters.quantized_weight import QuantizedWeight

SOURCES = PartFolder("fastserve_converters.models.sources", "fastserve.model_sources", "kind of model")


class ModelSource(Protocol):
    """A model of one kind, loaded when it is asked for; what was loaded and made stays in memory."""

    def reference(self, request: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Run the original model on evaluation and golden inputs.

        Args:
            request: the job's: which data, and where it is.
            out: an empty folder for `INPUTS`, `OUTPUTS` and `CALIBRATION` of `models.reference`, and what else a bundle
                of this kind needs.

        Returns:
            A description, JSON, that is also written there.
        """

    def model(self) -> Model:
        """Return the model in the form that is exported. It may use up the original."""

    def prove(self, reference: Path) -> float:
        """Compare the model with the original on a reference's own inputs and return the largest difference.

        It may let go of the original.

        Raises:
            FastServeError: it is larger than rounding explains.
        """

    def calibration(self, file: Path) -> Samples:
        """Return the calibration inputs that a reference wrote, looked at: they are what layers are rounded by.

        Args:
            file: `CALIBRATION` of a reference.

        Raises:
            UsageError: they are too few, or of no use.
            EnvironmentFailure: the model gives values on them that are not finite.
        """

    def stored_weights(self) -> Mapping[str, QuantizedWeight]:
        """Return the integers that the checkpoint itself has, by layer.

        Raises:
            UsageError: it has none.
        """


class ModelKind(Protocol):
    """What a module in `sources` offers. It can be imported without PyTorch.

    Attributes:
        PARTS: the parts of such a model by name, in the order in which they run → the form of each.
    """

    PARTS: Mapping[str, Form]

    def open_source(self, source: Mapping[str, Any]) -> ModelSource:
        """Return the model that a job's `source` names."""


def kind_of_task(task: str) -> ModelKind:
    """Return the kind of the models that a task is for, by the task's name."""
    module: Task = TASKS.load(task)
    kind: ModelKind = SOURCES.load(module.MODEL)
    return kind


def form_of_task(task: str) -> Form:
    """Return the form of the part that decides how a task's models are exported: its last."""
    return list(kind_of_task(task).PARTS.values())[-1]
