"""Names of fields that documents of earlier releases have: evidence, and the layer maps that bundles carry."""

from __future__ import annotations

from typing import Any

OLDER_NAMES = {
    "doubts": "warnings",
    "least": "minimum",
    "most": "maximum",
    "least_cosine": "min_cosine",
    "least_accuracy": "min_accuracy",
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
