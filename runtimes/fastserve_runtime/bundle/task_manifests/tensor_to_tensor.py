"""Task `tensor-to-tensor`."""

from __future__ import annotations

from fastserve_runtime.bundle.manifest import Manifest
from fastserve_runtime.bundle.task_checks import not_of_task

TENSORS = "tensors"
"""The kind of preprocessing; here, so that looking at a manifest needs no numpy."""


def check_manifest(manifest: Manifest) -> None:
    """Refuse a bundle whose model takes something else than tensors, or whose variants differ in what they take.

    Raises:
        BundleError: naming what it takes.
    """
    if manifest.preprocessing.kind != TENSORS:
        raise not_of_task(manifest, f"its model takes what '{manifest.preprocessing.kind:.60}' makes")
    names = {tuple(t.name for graph in v.graphs.values() for t in graph.signature.inputs) for v in manifest.variants}
    if len(names) > 1:
        raise not_of_task(manifest, "its variants take inputs of different names")
