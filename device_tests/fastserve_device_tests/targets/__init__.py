"""Targets: one module each, named `FORMAT_PROCESSOR`, found by name and imported when used.

A target is a format, an engine and the processor that really runs. Users write it with a colon (`onnx:cpu`). Third
parties add theirs by the entry-point group `fastserve.targets`.
"""

from __future__ import annotations

from typing import Protocol

from fastserve_runtime.errors import UsageError
from fastserve_runtime.plugins import PartFolder

TARGETS = PartFolder("fastserve_device_tests.targets", "fastserve.targets", "target")


class Target(Protocol):
    """What a module in `targets` offers.

    Attributes:
        NAME: as users write it.
        PROCESSOR: `cpu`, `gpu` or `npu`.
        EXECUTED_BY: `hardware`, `simulator`, `software driver` or `reference model`.
        FORMAT: the format that it takes.
        BACKEND: what the engine calls the executor in a placement, or None where there is no choice.
    """

    NAME: str
    PROCESSOR: str
    EXECUTED_BY: str
    FORMAT: str
    BACKEND: str | None


def target_names() -> tuple[str, ...]:
    """Return the names of all targets as users write them."""
    return tuple(n.replace("-", ":", 1) for n in (*TARGETS.built_in(), *TARGETS.third_party()))


def load_target(name: str) -> Target:
    """Return a target.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in target_names():
        raise UsageError(f"There is no target '{name}'.", f"There are: {', '.join(target_names())}.")
    target: Target = TARGETS.load(name.replace(":", "-", 1))
    return target
