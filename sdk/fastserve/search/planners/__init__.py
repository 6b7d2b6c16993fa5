"""Planners: which recipes are tried next; one module each, found by name and imported when used.

Third parties add theirs by the entry-point group `fastserve.planners`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fastserve.search.budget import Budget
from fastserve.search.candidate import Candidate
from fastserve_converters.precisions import Precision, RangeMethod
from fastserve_converters.recipe import Recipe
from fastserve_runtime.errors import FastServeError
from fastserve_runtime.plugins import PartFolder

PLANNERS = PartFolder("fastserve.search.planners", "fastserve.planners", "planner")
DEFAULT_PLANNERS = ("exhaustive", "mixed-precision")


@dataclass(frozen=True)
class Space:
    """What there is to try, and what can be asked of it before it is measured.

    Attributes:
        precisions: what each maker has, by maker and name.
        wanted: what the user wants of it, by maker; makers in the order in which they are tried.
        passes: what changed the model before.
        range_method: how the ranges of activations are found, where they are set beforehand.
        scores: maker and precision → the result of scoring every layer in the schemes of that mixed precision.
        size: recipe → bytes that a device must hold for its artifact, which is made for that.
        room: bytes that a device must hold beside artifacts.
    """

    precisions: Mapping[str, Mapping[str, Precision]]
    wanted: Mapping[str, Sequence[str]]
    passes: tuple[str, ...]
    range_method: RangeMethod
    scores: Callable[[str, str], Mapping[str, Any]]
    size: Callable[[Recipe], int]
    room: Callable[[], int]

    def recipes(self, *, mixed: bool) -> list[Recipe]:
        """Return what is wanted: of mixed precisions, whose assignments are not known, or of the others."""
        return [
            Recipe(maker, precision, passes=self.passes, range_method=self.range_method)
            for maker, chosen in self.wanted.items()
            for precision in chosen
            if (self.precisions[maker][precision].choices is not None) == mixed
        ]


class CannotPropose(Exception):
    """A recipe that was to be worked out cannot be.

    Attributes:
        recipe: as far as it is known.
        cause: why.
    """

    def __init__(self, recipe: Recipe, cause: FastServeError) -> None:
        super().__init__(str(cause))
        self.recipe = recipe
        self.cause = cause


class Planner(Protocol):
    """Proposes what is tried."""

    def propose(self, seen: Sequence[Candidate], budget: Budget) -> Sequence[Recipe]:
        """Return recipes that are worth trying now, none if there are no more. Those that were seen are not made again.

        Args:
            seen: what became of recipes so far, judged under the budget; failures too.
            budget: what must be kept to.

        Raises:
            CannotPropose: one cannot be worked out; it counts as seen, and the planner is asked again.
        """


class OpenPlanner(Protocol):
    """What a module in `planners` offers."""

    def open_planner(self, space: Space, budget: Budget) -> Planner:
        """Return a planner.

        Raises:
            UsageError: what is wanted of it makes no sense under the budget.
        """
