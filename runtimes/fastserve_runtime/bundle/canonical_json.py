"""JSON with one way to write each value, so that equal documents have equal digests."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical_json(document: Any) -> bytes:
    """Write a document as UTF-8 JSON with sorted keys and no spare white space.

    Raises:
        ValueError: for NaN or infinity, which JSON does not have.
    """
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def digest(document: Any) -> str:
    """Return the SHA-256 of a document's canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical_json(document)).hexdigest()
