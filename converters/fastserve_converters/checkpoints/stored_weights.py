"""What a checkpoint's folder holds of weights: its own, and those of an adapter beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastserve_converters.checkpoints.adapters import (
    Adapter,
    adapters_below,
    check_can_merge,
    find_adapter,
    refuse_adapter_alone,
)
from fastserve_converters.checkpoints.stored_tensors import Shape, stored_tensors
from fastserve_converters.checkpoints.task_finding import AUTO
from fastserve_converters.checkpoints.weight_files import has_weights, unread_weights, weight_files

CLASSIFICATION = "text-classification"


@dataclass(frozen=True)
class StoredWeights:
    """Weights as their files tell of them.

    Attributes:
        files: the checkpoint's own, relative to its folder.
        tensors: names and shapes of all tensors, those of the adapter among them.
        adapter: what is merged into them, or None.
        notes: what the user should know, in sentences.
    """

    files: tuple[str, ...]
    tensors: Mapping[str, Shape]
    adapter: Adapter | None
    notes: tuple[str, ...]

    def task(self, wanted: str) -> str:
        """Return the task that is wanted; what the adapter was trained for, where none is named."""
        is_for_classes = self.adapter is not None and self.adapter.classifies
        return CLASSIFICATION if wanted == AUTO and is_for_classes else wanted


def read_weights(path: Path, *, allow_pickle: bool) -> StoredWeights:
    """Describe the weights in a folder.

    Args:
        path: the folder of the Transformers model.
        allow_pickle: accept weights that are pickles.

    Raises:
        UsageError: there are none, a part is missing, they are pickles that were not allowed, or there is an adapter
            that cannot be merged.
    """
    adapter = find_adapter(path)
    if adapter is not None and not has_weights(path):
        refuse_adapter_alone(path)
    files = weight_files(path, allow_pickle=allow_pickle)
    tensors = stored_tensors([path / name for name in files])
    if adapter is not None:
        check_can_merge(adapter, allow_pickle=allow_pickle)
        tensors = {**tensors, **adapter.tensors()}
    unread = list(unread_weights(path, files, adapter=None if adapter is None else adapter.weights))
    notes = []
    if unread:
        notes.append(f"The checkpoint has more weights, which were not read: {', '.join(unread)}.")
    if below := adapters_below(path):
        notes.append(f"The checkpoint has adapters in folders of their own, which were not read: {', '.join(below)}.")
    return StoredWeights(files, tensors, adapter, tuple(notes))
