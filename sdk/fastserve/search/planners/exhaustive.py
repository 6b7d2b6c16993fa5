"""Everything that is wanted, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastserve.search.budget import Budget
from fastserve.search.candidate import Candidate
from fastserve.search.planners import Space
from fastserve_converters.recipe import Recipe


@dataclass(frozen=True)
class Exhaustive:
    """Proposes all recipes of a space that need nothing to be worked out; see `Planner`."""

    space: Space

    def propose(self, seen: Sequence[Candidate], budget: Budget) -> list[Recipe]:  # noqa: ARG002
        """Return those that were not seen."""
        known = {candidate.recipe for candidate in seen}
        return [recipe for recipe in self.space.recipes(mixed=False) if recipe not in known]


def open_planner(space: Space, budget: Budget) -> Exhaustive:  # noqa: ARG001
    """Return the planner."""
    return Exhaustive(space)
