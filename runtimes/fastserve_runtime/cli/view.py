"""How commands show people what they found: a seam, since the SDK shows the same in colours.

What is shown may come from a bundle that nobody vouches for: a view takes texts as they are, and writes characters that
steer a terminal as escapes. Programs get the same JSON whatever the view.
"""

from __future__ import annotations

from typing import Protocol

from fastserve_runtime.cli.streams import printable, show, tell
from fastserve_runtime.cli.text_table import shortened, text_table
from fastserve_runtime.failure import Failure
from fastserve_runtime.results import Table

_MAX_CHARACTERS = 60


class View(Protocol):
    """Where a command's results and messages go. Results that cannot be written are an OSError, messages are lost."""

    def heading(self, text: str, beside: str = "") -> None:
        """Show the title of what follows, and what is told beside it."""

    def line(self, text: str) -> None:
        """Show a line of the result."""

    def table(self, table: Table) -> None:
        """Show a table of the result."""

    def note(self, text: str) -> None:
        """Show a remark at the end of the result."""

    def tell(self, text: str) -> None:
        """Say something beside the result."""

    def warn(self, text: str) -> None:
        """Say what may be wrong."""

    def fail(self, failure: Failure) -> None:
        """Say what went wrong, and what to do."""


class PlainView:
    """Plain text: results on standard output, messages on standard error."""

    def __init__(self) -> None:
        self._is_first = True

    def heading(self, text: str, beside: str = "") -> None:
        """Show the title behind an empty line, but for the first."""
        self._part(printable(f"{text}  {beside}" if beside else text))

    def line(self, text: str) -> None:
        """Show a line."""
        self._is_first = False
        show(printable(text))

    def table(self, table: Table) -> None:
        """Show a table behind an empty line, but for the first; long texts are cut."""
        rows = [tuple(shortened(cell, _MAX_CHARACTERS) for cell in row) for row in table.rows]
        text = text_table(table.headings, rows if table.of_texts else table.rows, right=table.numbers)
        self._part(f"{printable(table.title)}\n{text}" if table.title else text)

    def note(self, text: str) -> None:
        """Show a remark behind an empty line."""
        self._part(f"Note: {printable(text)}")

    def tell(self, text: str) -> None:
        """Say something on standard error."""
        tell(printable(text))

    def warn(self, text: str) -> None:
        """Say what may be wrong on standard error."""
        tell(f"Warning: {printable(text)}")

    def fail(self, failure: Failure) -> None:
        """Say what went wrong on standard error."""
        tell(f"Error: {printable(failure.problem)}")
        if failure.remedy:
            tell(printable(failure.remedy))

    def _part(self, text: str) -> None:
        show(text if self._is_first else f"\n{text}")
        self._is_first = False
