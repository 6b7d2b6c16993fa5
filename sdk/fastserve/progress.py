"""Telling how far the work is, with the time that remains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from fastserve_runtime.processes.interruption import raise_noted_ctrl_c


@dataclass(frozen=True)
class PlannedStep:
    """A step that is to come.

    Attributes:
        name: shown while it runs.
        weight: expected share of the time, in seconds on an ordinary machine.
    """

    name: str
    weight: float


class Reporter(Protocol):
    """Gets told what is being done."""

    def plan(self, steps: Sequence[PlannedStep]) -> None:
        """Get steps before they begin; more may come while others run."""

    def start(self, name: str) -> None:
        """A step begins."""

    def finish(self, name: str) -> None:
        """A step has ended."""


class SilentReporter:
    """Says nothing."""

    def plan(self, steps: Sequence[PlannedStep]) -> None:
        """Do nothing."""

    def start(self, name: str) -> None:
        """Do nothing."""

    def finish(self, name: str) -> None:
        """Do nothing."""


class TerminalReporter:
    """Shows a bar with the remaining time on a terminal, or a line a step where there is none.

    Attributes:
        finished: names of the steps that have ended.
    """

    def __init__(self, console: Console, progress: Progress, finished: list[str] | None = None) -> None:
        self._console = console
        self._progress = progress
        self._task = progress.add_task("", total=None)
        self._weights: dict[str, float] = {}
        self.finished = [] if finished is None else finished

    def plan(self, steps: Sequence[PlannedStep]) -> None:
        """Lengthen the bar."""
        self._weights |= {step.name: step.weight for step in steps}
        self._progress.update(self._task, total=sum(self._weights.values()))

    def start(self, name: str) -> None:
        """Show what is being done.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed before, and a library swallowed it.
        """
        raise_noted_ctrl_c()
        self._progress.update(self._task, description=name)
        if not self._console.is_terminal:
            self._console.print(name, style="dim")

    def finish(self, name: str) -> None:
        """Advance the bar."""
        self.finished.append(name)
        self._progress.advance(self._task, self._weights.get(name, 0))


@contextmanager
def terminal_reporter(console: Console, finished: list[str] | None = None) -> Iterator[TerminalReporter]:
    """Show progress for the length of a `with` block; the bar goes away at its end.

    Args:
        console: where it is shown.
        finished: gets the names of the steps that have ended.
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with progress:
        yield TerminalReporter(console, progress, finished)
