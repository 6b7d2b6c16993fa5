"""What a fault is, and where it is put."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from fastserve_device_tests.targets import Target

Room = Literal["network", "calls", "placement", "texts", "files"]
"""Where a fault sits: in the model file's computation, around the engine's calls, in which processor runs it, in what
makes tensors of texts, in the bundle's bytes."""

LADDER = tuple(10.0 ** (half / 2) for half in range(-12, 1))
"""Strengths, as shares of a fault's whole effect: from a millionth to all of it, two a decade."""


@dataclass(frozen=True)
class Case:
    """What a fault is put into.

    Attributes:
        bundle: a directory with one variant. It is never written to.
        variant: its id.
        precision: its precision.
        target: what runs it.
        checkpoint: the folder of the model that was exported.
        copies: an empty folder for copies of the bundle.
    """

    bundle: Path
    variant: str
    precision: str
    target: Target
    checkpoint: Path
    copies: Path

    def on(self, target: Target) -> Case:
        """Return the case on another target."""
        return replace(self, target=target)


class NotHere(Exception):
    """A file has nothing that a fault could change, such as scales in a file of floats; the message says what."""


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        name: what goes wrong.
        room: where it sits.
        inject: puts it into a case, at a strength between 0 and 1. Raises `NotHere`.
        modules: for a fault in the network, ends of the names of the torch modules that may be said to go wrong, one of
            them for most; `{layer}` stands for a layer in the middle, the empty name for the model itself.
        strengths: ascending.
        unit: what a strength is a share of.
    """

    name: str
    room: Room
    inject: Callable[[Case, float], Case]
    modules: tuple[str, ...] = ()
    strengths: tuple[float, ...] = LADDER
    unit: str = "the whole effect"
