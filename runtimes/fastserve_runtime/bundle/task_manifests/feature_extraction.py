"""Task `feature-extraction`."""

from __future__ import annotations

from fastserve_runtime.bundle.manifest import Manifest
from fastserve_runtime.bundle.task_checks import check_encoder

SENTENCE_EMBEDDING = "sentence_embedding"
LAST_HIDDEN_STATE = "last_hidden_state"
OUTPUTS = (SENTENCE_EMBEDDING, LAST_HIDDEN_STATE)


def check_manifest(manifest: Manifest) -> None:
    """Refuse a bundle whose model gives neither embeddings nor hidden states; see `task_checks`.

    Raises:
        BundleError: naming what it gives.
    """
    check_encoder(manifest, OUTPUTS)
