"""Task `text-generation`."""

from __future__ import annotations

from fastserve_runtime.bundle.manifest import Manifest
from fastserve_runtime.bundle.raw_inputs import TOKENIZER
from fastserve_runtime.bundle.task_checks import not_of_task


def check_manifest(manifest: Manifest) -> None:
    """Refuse a bundle whose inputs are not prompts; see `task_checks`.

    Raises:
        BundleError: naming what they are.
    """
    if manifest.preprocessing.kind == TOKENIZER:
        raise not_of_task(manifest, "its model takes whole texts and continues none")
