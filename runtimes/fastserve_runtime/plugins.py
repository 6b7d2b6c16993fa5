"""Finding parts by name: a module in our folder first, else an entry point of an installed package."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fastserve_runtime.errors import UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints


@dataclass(frozen=True)
class PartFolder:
    """A folder of modules that all offer the same part, open to other packages by an entry-point group.

    Attributes:
        package: the import name of the folder, such as `fastserve_runtime.engines`.
        group: the entry-point group that third parties use.
        kind: what one part is called in messages, such as `engine`.
    """

    package: str
    group: str
    kind: str

    def built_in(self) -> tuple[str, ...]:
        """Return the names of our own parts: module names, '_' written as '-'. Imports none of them."""
        paths = importlib.import_module(self.package).__path__
        return tuple(
            sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(paths) if not m.name.startswith("_"))
        )

    def third_party(self) -> tuple[str, ...]:
        """Return the names that installed packages add. Imports none of them."""
        return tuple(sorted({e.name for e in entry_points(group=self.group)} - set(self.built_in())))

    def load(self, name: str) -> Any:
        """Import the part of that name.

        Returns:
            Our module, or whatever the entry point names.

        Raises:
            UsageError: there is no such part; the message lists those there are and the nearest name.
        """
        if name in self.built_in():
            return self._module(name)
        for entry in entry_points(group=self.group):
            if entry.name == name:
                return entry.load()
        known = (*self.built_in(), *self.third_party())
        import difflib

        close = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean '{close[0]}'? " if close else ""
        raise UsageError(f"There is no {self.kind} '{name}'.", f"{hint}There are: {', '.join(known) or 'none'}.")

    def _module(self, name: str) -> ModuleType:
        return importlib.import_module(f"{self.package}.{name.replace('-', '_')}")


def entry_points(group: str) -> EntryPoints:
    """Return the entry points of a group. Its library is imported here, since it takes longer than opening a model."""
    from importlib.metadata import entry_points as of_all_packages

    return of_all_packages(group=group)


PIPELINES = PartFolder("fastserve_runtime.pipelines", "fastserve_runtime.pipelines", "pipeline")
"""Named here and not in its folder, since manifests, goldens and workloads below the pipelines ask what theirs says."""
