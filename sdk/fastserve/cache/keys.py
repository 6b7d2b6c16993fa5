"""What decides the result of a cached stage beside its inputs: versions of tools, and digests of code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

import fastserve_runtime
from fastserve_converters.checkpoints.checkpoint import file_sha256


def tool_versions(distributions: Sequence[str]) -> dict[str, str | None]:
    """Return the installed versions of distributions, None for those that are not there. Imports none of them."""
    versions: dict[str, str | None] = {}
    for name in distributions:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions


def part_digest(part: object) -> str | None:
    """Return the SHA-256 of the module file of a format or task, which may be a third party's."""
    file = getattr(part, "__file__", None)
    return None if file is None else file_sha256(Path(file))


@lru_cache(maxsize=1)
def runtime_digest() -> str:
    """Return a digest of the runtime's code, which measures."""
    return package_digest(fastserve_runtime)


def package_digest(package: ModuleType) -> str:
    """Return a digest of a package's files: its modules, and the data beside them."""
    assert package.__file__ is not None
    root = Path(package.__file__).parent
    found = (f for f in root.rglob("*") if f.is_file() and f.parent.name != "__pycache__")
    files = {f.relative_to(root).as_posix(): file_sha256(f) for f in sorted(found)}
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()
