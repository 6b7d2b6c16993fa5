"""A digest of this package's own code: cached work of other code is not ours."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def sources_digest() -> str:
    """Return the SHA-256 over the paths and contents of the package's files: its modules, and the data beside them."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted(f for f in root.rglob("*") if f.is_file() and f.parent.name != "__pycache__"):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()
