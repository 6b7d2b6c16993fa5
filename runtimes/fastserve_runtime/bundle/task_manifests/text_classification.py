"""Task `text-classification`."""

from __future__ import annotations

from fastserve_runtime.bundle.axes import CLASSES, dim_of
from fastserve_runtime.bundle.manifest import Manifest
from fastserve_runtime.bundle.task_checks import check_encoder, not_of_task, tensors_named
from fastserve_runtime.parsing import Fields

LOGITS = "logits"
OUTPUTS = (LOGITS,)


def check_manifest(manifest: Manifest) -> None:
    """Refuse a bundle whose model gives no logits, or not one for each label; see `task_checks`.

    Raises:
        BundleError: naming what it gives.
    """
    check_encoder(manifest, OUTPUTS)
    labels = Fields(dict(manifest.task_settings), "task_settings").texts("labels")
    for scores in tensors_named(manifest, LOGITS):
        classes = dim_of(scores, CLASSES)
        if isinstance(classes, int) and classes != len(labels):
            raise not_of_task(manifest, f"its model scores {classes} labels and {len(labels)} are named")
