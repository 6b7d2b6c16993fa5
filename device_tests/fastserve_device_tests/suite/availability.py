"""Whether a target can run on this machine, and what would bring it."""

from __future__ import annotations

from fastserve_device_tests.targets import Target
from fastserve_device_tests.targets._broken_target import REMEDY, BrokenTarget
from fastserve_runtime.engines import installed_engine
from fastserve_runtime.errors import FastServeError
from fastserve_runtime.variants import usable_engine


def missing_of(target: Target) -> dict[str, str]:
    """Return what a target lacks on this machine, in words → the command that installs it. Imports no engine.

    For a target that the runtime's own engines execute, one of them must be there. Which of them, and how new, is up to
    each variant.
    """
    if isinstance(target, BrokenTarget):
        return {f"a module that can be used ({target.problem.rstrip('.')})": REMEDY}
    missing = dict(target.needs().missing())
    if target.engine is usable_engine:
        try:
            installed_engine(target.FORMAT)
        except FastServeError as error:
            missing[f"an engine for {target.FORMAT}"] = error.remedy.removeprefix("Install one: ").rstrip(".")
    return missing
