"""Names that a package offers to others, each of which comes with its module when it is first used (PEP 562)."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # `typing` takes long to import, and commands import this before they can tell of Ctrl-C
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def face(
    module: str, package: str, places: Mapping[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return the `__getattr__` and the `__dir__` of a module that offers names of others.

    Args:
        module: the module's name.
        package: that the other modules are of; empty where they are named in full.
        places: another module → names in it, with spaces between.
    """
    prefix = f"{package}." if package else ""
    module_of = {name: f"{prefix}{place}" for place, names in places.items() for name in names.split()}

    # Code digests know by its name that it hands on names, each of which counts where it is used.
    def __getattr__(name: str) -> object:  # noqa: N807
        if name not in module_of:
            raise AttributeError(f"module '{module}' has no attribute '{name}'")
        from importlib import import_module

        found: object = getattr(import_module(module_of[name]), name)
        setattr(sys.modules[module], name, found)
        return found

    def names() -> list[str]:
        return sorted({*vars(sys.modules[module])["__all__"], *module_of})

    return __getattr__, names
