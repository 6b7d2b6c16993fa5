"""What the runtime's commands show, in a terminal's colours."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table as RichTable

from fastserve.cli.consoles import error_console, output_console, plain
from fastserve_runtime.failure import Failure
from fastserve_runtime.results import Table, Tone

STYLES: Mapping[Tone | None, str | None] = {
    "good": "green", "doubtful": "yellow", "bad": "bold red", "absent": "dim", None: None,
}  # fmt: skip


class RichView:
    """Results and messages in colours; see `fastserve_runtime.cli.view.View`."""

    def heading(self, text: str, beside: str = "") -> None:
        """Show a title in bold."""
        output_console().print(f"[bold]{plain(text)}[/]{f'  {plain(beside)}' if beside else ''}", highlight=False)

    def line(self, text: str) -> None:
        """Show a line of the result."""
        output_console().print(plain(text), highlight=False)

    def table(self, table: Table) -> None:
        """Show a table; long cells are folded."""
        output_console().print(rich_table(table), highlight=False)

    def note(self, text: str) -> None:
        """Show a remark."""
        output_console().print(f"[dim]Note:[/] {plain(text)}", highlight=False)

    def tell(self, text: str) -> None:
        """Say something on standard error."""
        error_console().print(plain(text), highlight=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Say what may be wrong on standard error."""
        error_console().print(f"[yellow]Warning:[/] {plain(text)}", highlight=False, soft_wrap=True)

    def fail(self, failure: Failure) -> None:
        """Say what went wrong on standard error."""
        error_console().print(f"[bold red]Error:[/] {plain(failure.problem)}", highlight=False, soft_wrap=True)
        if failure.remedy:
            self.tell(failure.remedy)


def rich_table(table: Table) -> RichTable:
    """Return a table with its tones as colours."""
    drawn = RichTable(title=plain(table.title) or None, title_justify="left", title_style="")
    for heading in table.headings:
        drawn.add_column(plain(heading), justify="right" if heading in table.numbers else "left")
    for number, row in enumerate(table.rows):
        style = STYLES[table.tones[number]] if table.tones else None
        cells = {heading: plain(cell) for heading, cell in zip(table.headings, row, strict=True)}
        if style and table.toned is not None:
            cells[table.toned] = f"[{style}]{cells[table.toned]}[/]"
        drawn.add_row(*cells.values(), style=style if table.toned is None else None)
    return drawn
