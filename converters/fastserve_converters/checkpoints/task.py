"""What a task is to the converters, and where tasks are found: the modules of `fastserve_converters.tasks`.

It stands beside `Checkpoint`, which a task describes further and is read by what tasks say of themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from fastserve_converters.columns import Columns
from fastserve_runtime.bundle.axes import TOKENS
from fastserve_runtime.plugins import PartFolder

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from fastserve_converters.checkpoints.checkpoint import Checkpoint
    from fastserve_converters.data import LabelKind, Sample
    from fastserve_runtime.preprocessors.text import Windows

Pairs = Literal["never", "optional", "always"]

USUAL_LENGTH = 64
"""For so many tokens texts are exported by most tasks."""

TASKS = PartFolder("fastserve_converters.tasks", "fastserve.tasks", "task")


@dataclass(frozen=True)
class ModelOutput:
    """An output of a model that is exported.

    Attributes:
        name: in artifacts and bundles.
        field: of the model's result, from which it is made.
        axes: what its dimensions are called; see the runtime's `bundle.axes`.
    """

    name: str
    field: str
    axes: tuple[str, ...]

    @property
    def by_token(self) -> bool:
        """Whether it has a value for every token, shape [n, tokens, ...]. Those of padding say nothing."""
        return TOKENS in self.axes


class Task(Protocol):
    """What a module in `tasks` offers.

    Attributes:
        HEADS: endings of the architecture names in configs that are for this task.
        HEAD_WEIGHTS: sets of weight names by which a head for this task is known where the config names no
            architecture; one that begins with a full stop is the end of a name. May be left out.
        HEAD_ROWS: name of a head's tensor → how many rows it has for this task. May be left out.
        IN_ANY_MODEL: whether a model with another task's head can be taken for it too.
        AUTO_CLASS: the class of Transformers that loads it.
        UNUSED: parts of weight names that the task never uses; they may be missing and are not exported.
        HAS_LABELS: whether the config's class names mean something.
        POOLS: whether sentence-transformers files apply.
        MODEL: the kind of its models, a module of `models.sources`: `encoder` or `decoder`.
        RANKS: whether it orders texts for a query, so that a query's documents are judged together.
        PAIRS: whether it takes pairs of texts: `never`, `optional` (where the user says so) or `always`.

    It may also offer `INPUTS`, the kind of its inputs (see `inputs`), and what `usual_columns`, `usual_length`,
    `reads_contexts` and `known_of_windows` look for.
    """

    HEADS: tuple[str, ...]
    HEAD_WEIGHTS: tuple[tuple[str, ...], ...]
    HEAD_ROWS: Mapping[str, int]
    IN_ANY_MODEL: bool
    AUTO_CLASS: str
    UNUSED: tuple[str, ...]
    HAS_LABELS: bool
    POOLS: bool
    MODEL: str
    RANKS: bool
    PAIRS: Pairs

    def outputs(self, checkpoint: Checkpoint) -> tuple[ModelOutput, ...]:
        """Return the outputs that are exported, at least one; quality may look at all of them."""

    def settings(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """Return what the pipeline needs to know: JSON for the manifest's `task_settings`."""

    def label_kind(self, checkpoint: Checkpoint) -> LabelKind | None:
        """Return what the labels of its data are; None where it reads none."""

    def reference_outputs(
        self, model: torch.nn.Module, checkpoint: Checkpoint, inputs: Mapping[str, torch.Tensor]
    ) -> Mapping[str, torch.Tensor]:
        """Run the original model.

        Args:
            model: as loaded, before any rewriting.
            checkpoint: its description.
            inputs: `input_ids`, `attention_mask` and where it has token types `token_type_ids` (int64), shape
                [n, tokens].

        Returns:
            The task's `outputs` by name, shape [n, ...].
        """


def usual_columns(task: Task) -> Columns:
    """Return what the columns of a task's data are called, where the user names no others: its `COLUMNS`, if any."""
    own: Columns | None = getattr(task, "COLUMNS", None)
    return Columns() if own is None else own


def usual_length(task: Task) -> int:
    """Return for how many tokens a task's texts are exported, where the user says nothing: its `LENGTH`, if any."""
    own: int = getattr(task, "LENGTH", USUAL_LENGTH)
    return own


def reads_contexts(task: Task) -> bool:
    """Whether the second text of a task's pairs is a question's context, read in windows: its `READS_CONTEXTS`."""
    return bool(getattr(task, "READS_CONTEXTS", False))


def known_of_windows(task: Task, samples: Sequence[Sample], windows: Windows) -> dict[str, NDArray[np.generic]]:
    """Return what a task's quality is judged by beside inputs: what its `known(samples, windows)` gives, if any.

    Args:
        task: the task.
        samples: those that are evaluated.
        windows: what they became; one each, or several where contexts are read.

    Returns:
        Arrays by name, shape [windows, ...].
    """
    known = getattr(task, "known", None)
    found: dict[str, NDArray[np.generic]] = {} if known is None else known(samples, windows)
    return found
