"""What documents of earlier releases say in another way: evidence, layer maps, and a manifest's preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastserve_runtime.bundle.raw_inputs import TEXT_PAIR, TOKENIZER
from fastserve_runtime.errors import BundleError

OLDER_NAMES = {
    "doubts": "warnings",
    "least": "minimum",
    "most": "maximum",
    "least_cosine": "min_cosine",
    "least_accuracy": "min_accuracy",
    "least_version": "min_version",
    "restored": "kept_in_float",
    "taps": "intermediates",
    "twin": "fake_quant_reference",
}
"""A field's name up to release 0.1, and its name now. Bundles that were made then are read as before."""


def with_current_names(document: Any) -> Any:
    """Return a JSON document whose fields, at any depth, have the names that they have now."""
    if isinstance(document, dict):
        return {OLDER_NAMES.get(name, name): with_current_names(value) for name, value in document.items()}
    if isinstance(document, list):
        return [with_current_names(value) for value in document]
    return document


def current_preprocessing(kind: str, settings: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return a manifest's kind of preprocessing and its settings as they are said now.

    Up to release 0.1, pairs of texts were a setting `pairs` of the kind `tokenizer`, with their own settings inside.

    Raises:
        BundleError: that setting holds no settings.
    """
    pairs = settings.get("pairs") if kind == TOKENIZER else None
    if pairs is None:
        return kind, settings
    if not isinstance(pairs, Mapping):
        raise BundleError(
            f"preprocessing.settings gives 'pairs' as {pairs!r:.40}, not as settings.", "Export it again."
        )
    return TEXT_PAIR, {name: value for name, value in settings.items() if name != "pairs"} | dict(pairs)
