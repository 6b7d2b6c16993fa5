"""Tells scikit-build-core the version of the package."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

HERE = Path(__file__).resolve().parent
# A source distribution has metadata; in the repository the version has its one place.
SOURCES = (
    (HERE / "PKG-INFO", r"^Version: (\S+)$"),
    (HERE.parent / "fastserve_runtime" / "_version.py", r'^__version__ = "(.+)"$'),
)


def dynamic_metadata(field: str, _settings: Mapping[str, Any]) -> str:
    """The value of a metadata field; the version is the only one that this knows."""
    if field != "version":
        raise ValueError(f"{field!r} is not known here. Ask for the version only.")
    for path, pattern in SOURCES:
        found = re.search(pattern, path.read_text("utf-8"), re.MULTILINE) if path.is_file() else None
        if found is not None:
            return found[1]
    places = " nor ".join(str(path) for path, _ in SOURCES)
    raise FileNotFoundError(f"Neither {places} tells the version. Build from the repository or from an sdist.")
