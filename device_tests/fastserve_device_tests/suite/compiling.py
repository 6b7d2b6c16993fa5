"""Compiling a portable file into a target's own artifact, by the vendor's compiler, in the target's own process."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from fastserve_device_tests.processes.target_child import ask_target
from fastserve_device_tests.targets import CompilingTarget, Target
from fastserve_runtime.errors import EnvironmentFailure, FastServeError
from fastserve_runtime.processes.child import ChildEnded

_PROCESS = "suite.compile_process"


def compile_in_process(target: Target, model: Path, variant: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Compile a portable model in a child process with the target's limits.

    Args:
        target: one that has a compiler.
        model: the portable file.
        variant: the manifest's fields of the variant that it belongs to.
        out: an empty folder for the files.

    Returns:
        `Compiled.as_document`.

    Raises:
        EnvironmentFailure: something that the compiler needs is missing, it refused the model, crashed or hung.
    """
    check_there(target)
    request = {"target": target.NAME, "model": str(model), "variant": dict(variant), "out": str(out)}
    try:
        compiled: dict[str, Any] = ask_target(target.needs(), _PROCESS, request)["compiled"]
    except ChildEnded as ended:
        raise EnvironmentFailure(f"The process of the compiler for {target.NAME} {ended.told}.") from ended
    except FastServeError as error:
        raise EnvironmentFailure(error.problem, error.remedy) from error
    return compiled


def check_there(target: Target) -> None:
    """Refuse a target that lacks something on this machine.

    Raises:
        EnvironmentFailure: naming it, and the command that brings it.
    """
    missing = target.needs().missing()
    if missing:
        raise EnvironmentFailure(
            f"The target {target.NAME} lacks {' and '.join(missing)}.",
            f"Install it: {'; '.join(dict.fromkeys(missing.values()))}.",
        )


def compiler_versions(target: CompilingTarget) -> dict[str, str]:
    """Return the installed versions of a compiler's distributions, also in an environment of its own. Imports none."""
    needs = target.needs()
    own = needs.environment.get("PYTHONPATH")
    paths = sys.path if needs.interpreter is None or own is None else own.split(os.pathsep)
    versions: dict[str, str] = {}
    for name in target.COMPILED_BY:
        for found in distributions(name=name, path=paths):
            versions.setdefault(name, found.version)
    return versions
