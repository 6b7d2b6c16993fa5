"""Names that a package offers to others, each of which comes with its module when it is first used (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def places_of(package: str, modules: Mapping[str, str]) -> dict[str, str]:
    """Return name → the module that has it.

    Args:
        package: that the modules are of.
        modules: module of the package → names in it, with spaces between.
    """
    return {name: f"{package}.{module}" for module, names in modules.items() for name in names.split()}


def attributes_of(face: str, places: Mapping[str, str]) -> Callable[[str], object]:
    """Return the `__getattr__` of a module that offers names of others.

    Args:
        face: the module's name.
        places: name → the module that has it.
    """

    def attribute(name: str) -> object:
        if name not in places:
            raise AttributeError(f"module '{face}' has no attribute '{name}'")
        found: object = getattr(import_module(places[name]), name)
        setattr(sys.modules[face], name, found)
        return found

    return attribute
