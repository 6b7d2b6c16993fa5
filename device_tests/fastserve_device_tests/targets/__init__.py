"""Targets: one module each, named `FORMAT_PROCESSOR`, found by name and imported when used.

A target is a format, an engine and the processor that really runs. Users write it with a colon (`onnx:cpu`). Third
parties add theirs by the entry-point group `fastserve.targets`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Protocol

from fastserve_device_tests.needs import Needs
from fastserve_runtime.errors import UsageError
from fastserve_runtime.manifest import Variant
from fastserve_runtime.plugins import PartFolder
from fastserve_runtime.session import Engine

TARGETS = PartFolder("fastserve_device_tests.targets", "fastserve.targets", "target")
PROCESSORS = ("cpu", "gpu", "npu")


class Target(Protocol):
    """What a module in `targets` offers.

    Attributes:
        NAME: as users write it.
        PROCESSOR: `cpu`, `gpu` or `npu`.
        EXECUTED_BY: `hardware`, `simulator`, `software driver` or `reference model`.
        FORMAT: the format that it takes.
        BACKEND: what the engine calls the executor in a placement, or None where there is no choice.
        PRECISIONS: the precisions that it takes → as which it computes them, whose policies then hold: `fp32` → `fp16`
            for an NPU that has no other floats. None: every one, as it is.
    """

    NAME: str
    PROCESSOR: str
    EXECUTED_BY: str
    FORMAT: str
    BACKEND: str | None
    PRECISIONS: Mapping[str, str] | None

    def needs(self) -> Needs:
        """Return what it needs of this machine, and how its process is started."""

    def engine(self, variant: Variant) -> Engine:
        """Return what opens a variant on this target. Called in the target's own process.

        Raises:
            UsageError: no engine is for it.
            EnvironmentFailure: none that is installed meets what the variant requires.
        """


def target_names() -> tuple[str, ...]:
    """Return the names of all targets as users write them."""
    return tuple(n.replace("-", ":", 1) for n in (*TARGETS.built_in(), *TARGETS.third_party()))


def load_target(name: str) -> Target:
    """Return a target.

    Raises:
        UsageError: there is none of that name; the message has the nearest one.
    """
    if name not in target_names():
        close = difflib.get_close_matches(name, target_names(), n=1)
        hint = f"Did you mean '{close[0]}'? " if close else ""
        classes = ", ".join(PROCESSORS)
        raise UsageError(
            f"There is no target '{name}'.", f"{hint}There are: {', '.join(target_names())}; {classes}; all."
        )
    target: Target = TARGETS.load(name.replace(":", "-", 1))
    return target


def chosen_targets(words: Sequence[str] | None) -> list[Target]:
    """Return targets, each once.

    Args:
        words: names, classes of processors (`cpu`, `gpu`, `npu`), or `all`; None for what this machine's own processor
            executes.

    Raises:
        UsageError: a word is none of these.
    """
    if words is None:
        return [t for t in map(load_target, target_names()) if (t.PROCESSOR, t.EXECUTED_BY) == ("cpu", "hardware")]
    chosen: dict[str, Target] = {}
    for word in words:
        if word == "all" or word in PROCESSORS:
            every = map(load_target, target_names())
            chosen |= {t.NAME: t for t in every if word in {"all", t.PROCESSOR}}
        else:
            chosen[word] = load_target(word)
    return list(chosen.values())
