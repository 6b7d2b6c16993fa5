"""A child process in the environment, and within the limits, that a target needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastserve_device_tests.needs import Needs
from fastserve_runtime.processes.child import Child, Program
from fastserve_runtime.processes.limits import Limits


def ask_target(needs: Needs, module: str, request: Mapping[str, Any], *, debug: bool = False) -> dict[str, Any]:
    """Ask a module of this package one thing, in a process of its own, and return its answer.

    Address space is left alone (`RLIMIT_AS`): drivers reserve far more of it than they use. Resident memory is looked
    at instead.

    Raises:
        FastServeError: what the module raised.
        ChildEnded: it died, or took more time or memory than the target may.
    """
    program = Program(f"fastserve_device_tests.{module}", interpreter=needs.python, environment=needs.environment)
    with Child(program, Limits(seconds=needs.seconds, resident=needs.memory), debug=debug) as child:
        return child.ask(request)[0]
