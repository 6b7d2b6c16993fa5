"""Targets: one module each, named `FORMAT_PROCESSOR`, found by name and imported when used.

A target is a format, an engine and the processor that really runs. Users write it with a colon (`onnx:cpu`). Third
parties add theirs by the entry-point group `fastserve.targets`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

from fastserve_device_tests.needs import Needs
from fastserve_device_tests.targets._broken_target import checked_target, not_importable
from fastserve_runtime.bundle.manifest import Variant
from fastserve_runtime.conformance.widths import with_width
from fastserve_runtime.errors import UsageError
from fastserve_runtime.plugins import PartFolder
from fastserve_runtime.sessions.session import Engine

if TYPE_CHECKING:
    from fastserve_device_tests.compilers.compiled import Compiled

TARGETS = PartFolder("fastserve_device_tests.targets", "fastserve.targets", "target")
PROCESSORS = ("cpu", "gpu", "npu")
COMPILE_ONLY = "compile-only"
"""By what a target is executed that nothing here executes: its compiler alone judges a variant."""


class Target(Protocol):
    """What a module in `targets` offers.

    Attributes:
        NAME: as users write it.
        PROCESSOR: `cpu`, `gpu` or `npu`.
        EXECUTED_BY: `hardware`, `simulator`, `software driver`, `reference model`, `browser`, or `compile-only` where
            nothing here executes it.
        FORMAT: the format that it takes.
        BACKEND: what the engine calls the executor in a placement, or None where there is no choice.
        PRECISIONS: the precisions that it takes → as which it computes them, whose policies then hold: `fp32` →
            `HALF_ARITHMETIC` for an NPU that has no other floats. None: every one, as it is.
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
            EnvironmentFailure: none that is installed meets what the variant requires, or nothing here executes it.
        """


class CompilingTarget(Target, Protocol):
    """A target whose vendor has a compiler from a portable file to an artifact of the target's own.

    Attributes:
        COMPILED_BY: distributions whose versions decide the result.

    A module may also offer COMPILES_PARTS: the forms of the parts whose files it takes; see `parts_compiled`.
    """

    COMPILED_BY: tuple[str, ...]

    def compile_model(self, model: Path, variant: Variant, out: Path) -> Compiled:
        """Write the target's artifact into an empty folder. Called in the target's own process.

        Args:
            model: the portable file, of the target's `FORMAT`.
            variant: what it is, of one of the target's `PRECISIONS`.
            out: where the files go.

        Raises:
            BundleError: the compiler refuses the model.
            EnvironmentFailure: the compiler cannot be used.
        """


def is_for(target: Target, variant: Variant) -> bool:
    """Whether a variant is for a target: a portable one of its format, or one made for it, of whatever format."""
    if variant.target is None:
        return variant.format == target.FORMAT
    return variant.target == target.NAME


def needs_own_artifact(target: Target) -> bool:
    """Whether a target takes only what was made for it, as its `OWN_ARTIFACT` says: nothing in portable files is."""
    return getattr(target, "OWN_ARTIFACT", False)


def takes(target: Target, variant: Variant) -> bool:
    """Whether a variant can be checked on a target: it was made for it, or is portable and of a precision it takes."""
    return is_for(target, variant) and not obstacle(target, variant)


def obstacle(target: Target, variant: Variant) -> str:
    """Return why a variant that is for a target cannot be checked there at all; empty where it can."""
    if variant.target is not None:
        return ""
    if needs_own_artifact(target):
        return f"it is made for {variant.expected_placement.backend}; export with --target {target.NAME}"
    if target.PRECISIONS is None or variant.precision in target.PRECISIONS:
        return ""
    return f"it takes {', '.join(target.PRECISIONS)}, not {variant.precision}"


def as_computed(target: Target, variant: Variant) -> Variant:
    """Return a variant with the width that a target computes it in, whose policies then hold.

    One that was made for the target may have a precision that no portable one has; it stays.
    """
    computed = variant.precision if target.PRECISIONS is None else target.PRECISIONS.get(variant.precision)
    return variant if computed in {None, variant.precision} else with_width(variant, str(computed))


def compiles(target: Target) -> bool:
    """Whether a target has a compiler from a portable file."""
    return hasattr(target, "compile_model")


def parts_compiled(target: Target) -> tuple[Literal["traced", "cached"], ...]:
    """Return the forms of the model's parts whose portable files a target's compiler takes: its `COMPILES_PARTS`.

    `traced` are those of a plain graph, `cached` those of decoders, whose graph keeps keys and values. Where it says
    nothing, traced ones.
    """
    return getattr(target, "COMPILES_PARTS", ("traced",))


def compiler_of(target: Target) -> CompilingTarget:
    """Return a target as one that compiles.

    Raises:
        UsageError: it has no compiler from a portable file.
    """
    if not compiles(target):
        raise UsageError(f"The target {target.NAME} has no compiler from a portable file.", "Name another target.")
    return cast("CompilingTarget", target)


def target_names() -> tuple[str, ...]:
    """Return the names of all targets as users write them."""
    return tuple(n.replace("-", ":", 1) for n in (*TARGETS.built_in(), *TARGETS.third_party()))


def load_target(name: str) -> Target:
    """Return a target; for one of another package that cannot be used, what stands for it.

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
    part = name.replace(":", "-", 1)
    if part in TARGETS.built_in():
        target: Target = TARGETS.load(part)
        return target
    try:
        found = TARGETS.load(part)
    except Exception as error:  # another package's code may raise anything
        return cast("Target", not_importable(name, error))
    checked: Target = checked_target(name, found)
    return checked


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
