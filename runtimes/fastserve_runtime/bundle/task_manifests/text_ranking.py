"""Task `text-ranking`."""

from __future__ import annotations

from fastserve_runtime.bundle.axes import CLASSES, dim_of
from fastserve_runtime.bundle.manifest import Manifest
from fastserve_runtime.bundle.task_checks import check_encoder, not_of_task, tensors_named

LOGITS = "logits"
OUTPUTS = (LOGITS,)


def check_manifest(manifest: Manifest) -> None:
    """Refuse a bundle whose model gives no logits, not one for each document, or takes no pairs; see `task_checks`.

    Raises:
        BundleError: naming what it gives or takes.
    """
    check_encoder(manifest, OUTPUTS)
    for scores in tensors_named(manifest, LOGITS):
        classes = dim_of(scores, CLASSES)
        if isinstance(classes, int) and classes != 1:
            raise not_of_task(manifest, f"its model gives {classes} scores for a document")
    if manifest.preprocessing.settings.get("pairs") is None:
        raise not_of_task(manifest, "its preprocessing takes no pairs of texts")
