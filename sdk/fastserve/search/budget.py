"""Budgets: hard limits that a variant meets or does not."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastserve.search.units import parse_quality, parse_size, parse_time
from fastserve_runtime.errors import UsageError
from fastserve_runtime.measurement.measurement import NOT_JUDGED, Figure
from fastserve_runtime.quantities import format_size, format_time

METRICS: Mapping[str, tuple[str, str]] = {
    "size": ("<=", "B"),
    "memory": ("<=", "B"),
    "latency": ("<=", "s"),
    "ttft": ("<=", "s"),
    "tpot": ("<=", "s"),
    "quality": (">=", ""),
}
"""Metric → its comparison and unit: bytes on the device, bytes of peak memory, seconds of p90 latency, of p90 time to
first token, of p90 time per output token (as MLPerf Inference defines both), task quality."""
_FLAGS = {
    "size": "--max-size",
    "memory": "--max-memory",
    "latency": "--max-latency",
    "ttft": "--max-ttft",
    "tpot": "--max-tpot",
}
_MIN_PLAIN_BYTES = 1000
"""Fewer bytes without a unit are megabytes whose unit was forgotten."""
_SENSIBLE = {
    "size": (1, 1e12, "MB"),
    "memory": (1e6, 1e13, "MB"),
    "latency": (1e-6, 3600.0, "ms"),
    "ttft": (1e-6, 3600.0, "ms"),
    "tpot": (1e-6, 3600.0, "ms"),
}
"""Metric → the least and the most that anything could be limited by, and the unit that is meant mostly."""


@dataclass(frozen=True)
class Limit:
    """One hard limit.

    Attributes:
        metric: one of `METRICS`.
        comparison: `<=` or `>=`.
        value: in `unit`.
        unit: `B`, `s`, or empty for a plain number.
    """

    metric: str
    comparison: str
    value: float
    unit: str

    def is_met(self, figure: float) -> bool:
        """Whether a figure, in the limit's unit, meets it."""
        return figure <= self.value if self.comparison == "<=" else figure >= self.value

    def excess(self, figure: float) -> float:
        """Return by how much a figure breaks the limit, as a share of the limit; 0 where it is met."""
        over = figure - self.value if self.comparison == "<=" else self.value - figure
        return max(0.0, over / self.value)

    def __str__(self) -> str:
        sign = "≤" if self.comparison == "<=" else "≥"
        return f"{self.metric} {sign} {format_figure(self.value, self.unit)}"


@dataclass(frozen=True)
class Breach:
    """A limit that a variant does not meet.

    Attributes:
        limit: which.
        figure: the variant's own; None where there is none that can be trusted.
        reason: in words.
    """

    limit: Limit
    figure: float | None
    reason: str


@dataclass(frozen=True)
class Budget:
    """A tuple of limits; an empty one lets everything pass."""

    limits: tuple[Limit, ...] = ()

    def breaches(self, figures: Mapping[str, Figure], warnings: Mapping[str, str]) -> tuple[Breach, ...]:
        """Return the limits that are not met. What is not judged breaks none.

        Args:
            figures: by metric; None where it was not measured.
            warnings: by metric, why its figure cannot be trusted; such a figure must be given as an upper bound.
        """
        found = []
        for limit in self.limits:
            figure = figures.get(limit.metric)
            if figure is NOT_JUDGED:
                continue
            if figure is None:
                found.append(Breach(limit, None, f"{limit.metric} was not measured"))
            elif not limit.is_met(figure):
                warning = f" (not trustworthy: {warnings[limit.metric]})" if limit.metric in warnings else ""
                found.append(Breach(limit, figure, f"{limit.metric} {format_figure(figure, limit.unit)}{warning}"))
        return tuple(found)

    def as_document(self) -> list[dict[str, Any]]:
        """Return the limits as JSON."""
        return [{"metric": x.metric, "comparison": x.comparison, "value": x.value, "unit": x.unit} for x in self.limits]


def check_applies(budget: Budget, *, generates: bool) -> None:
    """Refuse limits on times that a task does not have.

    Args:
        budget: the limits.
        generates: whether the model continues texts.

    Raises:
        UsageError: naming the flags that it has.
    """
    foreign = {"latency"} if generates else {"ttft", "tpot"}
    for limit in budget.limits:
        if limit.metric in foreign:
            wanted = "--max-ttft or --max-tpot" if generates else "--max-latency"
            what = "that generates text" if generates else "that generates no text"
            raise UsageError(f"{_FLAGS[limit.metric]} was given for a model {what}.", f"Use {wanted} instead.")


def budget_from_flags(
    *,
    max_size: str | int | None = None,
    max_memory: str | int | None = None,
    max_latency: str | float | None = None,
    max_ttft: str | float | None = None,
    max_tpot: str | float | None = None,
    min_quality: str | float | None = None,
) -> Budget:
    """Make a budget from what the command line or Python gives: texts with units, or plain bytes, seconds, numbers.

    Raises:
        UsageError: a value is no such quantity, not above 0, or a text of a quantity that must be a slip.
    """
    given = {
        "size": None if max_size is None else parse_size(str(max_size)),
        "memory": None if max_memory is None else parse_size(str(max_memory)),
        "latency": _seconds(max_latency),
        "ttft": _seconds(max_ttft),
        "tpot": _seconds(max_tpot),
        "quality": None if min_quality is None else parse_quality(str(min_quality)),
    }
    texts = {"size": max_size, "memory": max_memory, "latency": max_latency, "ttft": max_ttft, "tpot": max_tpot}
    for metric, text in texts.items():
        if isinstance(text, str):
            _check_sensible(metric, text, given[metric])
    limits = [Limit(metric, METRICS[metric][0], value, METRICS[metric][1]) for metric, value in given.items() if value]
    return Budget(tuple(limits))


def format_figure(value: float, unit: str) -> str:
    """Write a figure with its unit."""
    if unit == "B":
        return format_size(value)
    return format_time(value) if unit == "s" else f"{value:g}"


def _check_sensible(metric: str, text: str, value: float | None) -> None:
    minimum, maximum, unit = _SENSIBLE[metric]
    if unit == "MB" and value is not None and value < _MIN_PLAIN_BYTES and text.strip()[-1:].isdigit():
        raise UsageError(
            f"{_FLAGS[metric]} of '{text}' is {value:g} byte{'' if value == 1 else 's'}, which nothing could meet.",
            f"Did you mean {text.strip()}MB? Write {text.strip()}B for bytes.",
        )
    if value is None or minimum <= value <= maximum:
        return
    never = "nothing could meet" if value < minimum else "everything meets"
    number = re.match(r"[0-9.]+(?![0-9.eE])", text.strip())
    meant = f"Did you mean {number.group()}{unit}?" if number else f"Write it in {unit}."
    raise UsageError(f"{_FLAGS[metric]} of '{text}' is a limit that {never}.", meant)


def _seconds(value: str | float | None) -> float | None:
    if value is None:
        return None
    if isinstance(value, str):
        return parse_time(value)
    if not 0 < value < math.inf:
        raise UsageError(f"A latency of {value} s was given; nothing can fit that.", "Give one above 0.")
    return float(value)
