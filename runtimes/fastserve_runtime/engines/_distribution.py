"""Versions of installed distributions, read without importing them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_version(distribution: str) -> str | None:
    """Return a distribution's version, or None where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
