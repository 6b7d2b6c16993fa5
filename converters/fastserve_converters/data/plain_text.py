"""Plain text: one text a line."""

from __future__ import annotations

import io
from pathlib import Path

from fastserve_converters.data.table import Table
from fastserve_converters.data.text_files import read_utf8

COLUMN = "text"


def read(file: Path) -> Table:
    """Read a file of one text a line; a line ends with LF, CRLF or CR, and with no other sign.

    Raises:
        UsageError: it is not UTF-8.
    """
    lines = [line.rstrip("\n") for line in io.StringIO(read_utf8(file, "text"), newline=None)]
    return Table(file, (COLUMN,), "line", range(1, len(lines) + 1), lambda _: lines, is_plain=True)
