"""Mixed precision under a budget: which scheme each layer gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastserve.search.budget import Budget
from fastserve.search.candidate import Candidate
from fastserve_converters.precisions import Precision, WeightScheme
from fastserve_converters.quantization.assignment import Cost, choose, parse_units, size_cost, time_cost
from fastserve_runtime.errors import UsageError
from fastserve_runtime.measurement.measurement import NOT_JUDGED

_CALL = ("latency", "tpot")
LEAST_ROOM = 64 * 1024
"""Bytes of a model file that are no weights: the graph itself."""


@dataclass(frozen=True)
class Mix:
    """What an assignment rests on.

    Attributes:
        scores: what the sensitivity stage found.
        budget: its limits on size and latency are kept to.
        precisions: the format's.
        measured: candidates of this format that are measured already, from which latency is predicted.
    """

    scores: Mapping[str, Any]
    budget: Budget
    precisions: Mapping[str, Precision]
    measured: Sequence[Candidate]

    @property
    def most_size(self) -> float | None:
        """The budget's limit on size, in bytes."""
        return self._limit("size")

    @property
    def most_latency(self) -> float | None:
        """The budget's limit on the latency of a call, or of an output token, in seconds."""
        return self._limit(*_CALL)

    def _limit(self, *metrics: str) -> float | None:
        return next((limit.value for limit in self.budget.limits if limit.metric in metrics), None)


def check_limited(names: Sequence[str], budget: Budget) -> None:
    """Refuse mixed precisions where nothing is to be traded.

    Raises:
        UsageError: one is wanted and the budget limits neither size nor latency.
    """
    if names and not any(limit.metric in {"size", *_CALL} for limit in budget.limits):
        raise UsageError(
            f"The precision '{names[0]}' gives each layer its own within a limit, and there is none.",
            "Give --max-size, or --max-latency (--max-tpot for a model that generates text).",
        )


def mixed_assignment(mix: Mix, room: int) -> dict[str, dict[str, Any] | None]:
    """Return layer → the fields of its scheme (None: float), losing least within the budget.

    Args:
        mix: what it rests on.
        room: bytes on the device that are not these layers' weights.

    Raises:
        UsageError: the limits are too tight, or latency is limited and nothing was measured to predict it from.
    """
    units = parse_units(mix.scores["units"])
    costs: list[Cost] = []
    if mix.most_size is not None:
        costs.append(size_cost(units, mix.most_size - room))
    if mix.most_latency is not None:
        costs.append(time_cost(units, measured_seconds(mix), mix.most_latency))
    return {name: None if s is None else s.as_document() for name, s in choose(units, costs).items()}


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
