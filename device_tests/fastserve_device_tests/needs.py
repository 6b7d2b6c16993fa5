"""What a target needs of the machine that it runs on."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import fastserve_device_tests
import fastserve_runtime

GIBIBYTE = 2**30


@dataclass(frozen=True)
class Needs:
    """What must be there before a target can run, and how its process is started.

    Attributes:
        modules: top-level modules that must be importable → the command that installs each.
        files: files that must be there, and are looked for beforehand: path, or None where none was found → what it
            is, and the command that installs it.
        environment: variables that must be set before the process starts.
        interpreter: the Python of its own environment; None for the one that runs now.
        seconds: how long all checks of one variant may take.
        memory: how many bytes its process may hold in memory.
    """

    modules: Mapping[str, str] = field(default_factory=dict)
    files: tuple[tuple[Path | None, str, str], ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    interpreter: Path | None = None
    seconds: float = 600
    memory: int = 8 * GIBIBYTE

    def missing(self) -> dict[str, str]:
        """Return what is not there, in words → the command that installs it. Imports nothing."""
        lacking = {f"the package {name}": command for name, command in self.modules.items() if find_spec(name) is None}
        lacking |= {what: command for path, what, command in self.files if path is None or not path.exists()}
        return lacking

    @property
    def python(self) -> str:
        """The interpreter that runs the target."""
        return sys.executable if self.interpreter is None else str(self.interpreter)


def set_up_folder(variable: str, name: str) -> Path:
    """Return the folder that a set-up script makes.

    Args:
        variable: of the environment, that names another place.
        name: of the folder, usually below `~/.local/share/fastserve`.
    """
    return Path(os.environ.get(variable) or f"~/.local/share/fastserve/{name}").expanduser()


def separate_environment(packages: Path) -> dict[str, str]:
    """Return what makes another Python find its own packages, and FastServe's behind them.

    The environment's own come first: where FastServe is installed from wheels, there is another numpy beside it, made
    for another Python.

    Args:
        packages: the `site-packages` of that Python.
    """
    own = [Path(module.__path__[0]).parent for module in (fastserve_runtime, fastserve_device_tests)]
    return {"PYTHONPATH": os.pathsep.join(map(str, (packages, *own)))}


def first_that_exists(*places: str) -> Path | None:
    """Return the first of these files that is there."""
    return next((path for path in map(Path, places) if path.exists()), None)
