"""What decides the result of a step beside its inputs and its code: versions of tools."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version


def tool_versions(distributions: Sequence[str]) -> dict[str, str | None]:
    """Return the installed versions of distributions, None for those that are not there. Imports none of them."""
    versions: dict[str, str | None] = {}
    for name in distributions:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions
