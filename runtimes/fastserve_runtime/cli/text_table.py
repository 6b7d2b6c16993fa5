"""Tables of plain text: columns side by side, as wide as what is in them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from fastserve_runtime.cli.streams import printable

GAP = "  "


def text_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> str:
    """Return rows under their headings, aligned.

    Args:
        headings: one for each column.
        rows: as many cells each.
        right: headings of the columns whose cells stand at the right, such as numbers.
    """
    lines = [[printable(cell) for cell in row] for row in (headings, *rows)]
    widths = [max(map(text_width, column)) for column in zip(*lines, strict=True)]
    at_right = [heading in right for heading in headings]
    ruled = [lines[0], ["─" * width for width in widths], *lines[1:]]
    return "\n".join(
        GAP.join(_padded(*cell) for cell in zip(line, widths, at_right, strict=True)).rstrip() for line in ruled
    )


def text_width(text: str) -> int:
    """Return how many columns of a terminal a text takes: East Asian characters take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in {"W", "F"} else 1 for c in text
    )


def shortened(text: str, maximum: int) -> str:
    """Return a text cut to at most so many characters, with '…' at the end where it was cut."""
    return text if len(text) <= maximum else text[: maximum - 1] + "…"


def _padded(text: str, width: int, at_right: bool) -> str:  # noqa: FBT001 -- a cell of a table, never called by name
    room = " " * (width - text_width(text))
    return room + text if at_right else text + room
