"""Versions of installed distributions, read without importing them."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec


@cache
def installed_version(distribution: str, module: str) -> str | None:
    """Return a distribution's version, or None where it is not installed.

    Its folder of metadata beside the module is named by it (`onnxruntime-1.32.0.dist-info`, PEP 376 and 427). Where
    there is none, as for an editable installation, `importlib.metadata` is asked, whose import takes longer than all
    that a small model needs.

    Args:
        distribution: its name on the package index.
        module: a top-level module that it brings.
    """
    folder = module_folder(module)
    if folder is None:
        return None
    site = os.path.dirname(folder)  # noqa: PTH120 -- pathlib is not imported yet
    prefix = distribution.replace("-", "_").lower() + "-"
    for name in os.listdir(site):  # noqa: PTH208
        if name.lower().startswith(prefix) and name.endswith(".dist-info"):
            return name[len(prefix) : -len(".dist-info")]
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


@cache
def module_folder(module: str) -> str | None:
    """Return the folder of a top-level package without importing it, or None where it is not installed."""
    try:
        spec = find_spec(module)
    except ValueError:  # a module that is in sys.modules without a spec
        return None
    places = spec.submodule_search_locations if spec is not None else None
    return next(iter(places), None) if places else None
