"""Mixed precision under a budget: which scheme each layer gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastserve.pipeline.converter_process import stops_all
from fastserve.search.budget import Budget
from fastserve.search.candidate import Candidate
from fastserve.search.planners import CannotPropose, Space
from fastserve_converters.precisions import Precision, WeightScheme
from fastserve_converters.quantization.assignment import Cost, choose, parse_units, size_cost, time_cost
from fastserve_converters.recipe import Assignment, Recipe, assignment_of
from fastserve_runtime.errors import FastServeError, UsageError
from fastserve_runtime.measurement.measurement import NOT_JUDGED

_CALL = ("latency", "tpot")
_MIN_ROOM = 64 * 1024
"""Bytes of a model file that are no weights: the graph itself."""
_ATTEMPTS = 3
_EXCESS_MARGIN = 1.5
"""By what a file is made smaller beyond what it was too large: another assignment has other layers in it, and formats
store more beside a layer's quantized weights than is counted for them."""


@dataclass(frozen=True)
class Mix:
    """What an assignment rests on.

    Attributes:
        scores: what the sensitivity step found.
        budget: its limits on size and latency are kept to.
        precisions: the maker's.
        measured: candidates of this maker that are measured already, from which latency is predicted.
    """

    scores: Mapping[str, Any]
    budget: Budget
    precisions: Mapping[str, Precision]
    measured: Sequence[Candidate]

    @property
    def max_size(self) -> float | None:
        """The budget's limit on size, in bytes."""
        return self._limit("size")

    @property
    def max_latency(self) -> float | None:
        """The budget's limit on the latency of a call, or of an output token, in seconds."""
        return self._limit(*_CALL)

    def _limit(self, *metrics: str) -> float | None:
        return next((limit.value for limit in self.budget.limits if limit.metric in metrics), None)


@dataclass(frozen=True)
class MixedPrecision:
    """Works out the recipes of mixed precisions, one after the other; see `Planner`."""

    space: Space

    def propose(self, seen: Sequence[Candidate], budget: Budget) -> list[Recipe]:
        """Return the recipe of the first mixed precision that was not seen."""
        known = {(candidate.recipe.maker, candidate.recipe.precision) for candidate in seen}
        for recipe in self.space.recipes(mixed=True):
            if (recipe.maker, recipe.precision) not in known:
                try:
                    return [self._worked_out(recipe, seen, budget)]
                except FastServeError as error:
                    if stops_all(error):
                        raise
                    raise CannotPropose(recipe, error) from error
        return []

    def _worked_out(self, recipe: Recipe, seen: Sequence[Candidate], budget: Budget) -> Recipe:
        """Choose schemes for the layers within the budget, and again with less room if the file came out too large."""
        scores = self.space.scores(recipe.maker, recipe.precision)
        own = [candidate for candidate in seen if candidate.recipe.maker == recipe.maker]
        mix = Mix(scores, budget, self.space.precisions[recipe.maker], own)
        room = int(scores["other_bytes"]) + _MIN_ROOM + self.space.room()
        for _ in range(_ATTEMPTS):
            found = replace(recipe, assignment=mixed_assignment(mix, room))
            excess = 0 if mix.max_size is None else self.space.size(found) - mix.max_size
            if excess <= 0:
                break
            room += int(_EXCESS_MARGIN * excess)
        return found


def open_planner(space: Space, budget: Budget) -> MixedPrecision:
    """Return the planner.

    Raises:
        UsageError: a mixed precision is wanted, and the budget limits neither size nor latency.
    """
    wanted = space.recipes(mixed=True)
    if wanted and not any(limit.metric in {"size", *_CALL} for limit in budget.limits):
        raise UsageError(
            f"The precision '{wanted[0].precision}' gives each layer its own within a limit, and there is none.",
            "Give --max-size, or --max-latency (--max-tpot for a model that generates text).",
        )
    return MixedPrecision(space)


def mixed_assignment(mix: Mix, room: int) -> Assignment:
    """Return layer and scheme (None: float), losing least within the budget.

    Args:
        mix: what it rests on.
        room: bytes on the device that are not these layers' weights.

    Raises:
        UsageError: the limits are too tight, or latency is limited and nothing was measured to predict it from.
    """
    units = parse_units(mix.scores["units"])
    costs: list[Cost] = []
    if mix.max_size is not None:
        costs.append(size_cost(units, mix.max_size - room))
    if mix.max_latency is not None:
        costs.append(time_cost(units, measured_seconds(mix), mix.max_latency))
    return assignment_of(choose(units, costs))


def measured_seconds(mix: Mix) -> dict[WeightScheme | None, float]:
    """Return linear scheme → p90 of a measured candidate that has it in all its linear layers; the quickest of them.

    Raises:
        UsageError: there is none.
    """
    seconds: dict[WeightScheme | None, float] = {}
    for candidate in mix.measured:
        plan = mix.precisions.get(candidate.precision)
        figures = candidate.figures()
        p90 = next((figures[metric] for metric in _CALL if metric in figures), None)
        if plan is None or plan.choices is not None or p90 is None or p90 is NOT_JUDGED:
            continue
        seconds[plan.linear] = min(p90, seconds.get(plan.linear, p90))
    if not seconds:
        raise UsageError(
            "A mixed precision under a limit on latency needs measured precisions to predict it from.",
            "Name others beside it, such as --precision fp32,int8-dynamic,mixed.",
        )
    return seconds
