"""Tables of fields between commas or tabs (RFC 4180), with a heading. A field is a text, whatever it looks like."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fastserve_converters.data.table import Table, unreadable
from fastserve_converters.data.text_files import read_utf8
from fastserve_runtime.errors import UsageError, one_line

_MAX_CHARACTERS = 2**31 - 1
"""Of one field: the most that the csv module takes on every system; by itself it stops at 131072."""
_OPEN_AT_END = "unexpected end of data"
_NAMES_SHOWN = 8
_TAB = "\t"
_OTHER_DELIMITERS = (";", ",", "|", _TAB)


def read(file: Path) -> Table:
    """Read a `.csv` or `.tsv` file; lines without anything are left out.

    Raises:
        UsageError: it is not UTF-8, a quoted text is not closed or goes on behind its quote, or a row has not as many
            fields as the heading; the line is named.
    """
    kind, delimiter = ("TSV", _TAB) if file.suffix.lower() == ".tsv" else ("CSV", ",")
    with _long_fields():
        records = [(n, r) for n, r in _records(file, read_utf8(file, kind), kind, delimiter) if r]
    if not records:
        return Table(file, (), "line", (), lambda _: ())
    names = tuple(name.strip() for name in records[0][1])
    rows = [(n, r) for n, r in records[1:] if not _is_blank(r, names)]
    _check_fields(file, names, rows, delimiter)
    numbers = [line for line, _ in rows]
    return Table(file, names, "line", numbers, lambda i: [r[i] for _, r in rows], hint=_hint(names, kind, delimiter))


def _records(file: Path, text: str, kind: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with the number of the line that it begins in."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            what = "a quoted text is never closed" if str(error) == _OPEN_AT_END else one_line(error)
            remedy = "Put texts that have a quote in quotes, and write each quote in them twice."
            raise unreadable(file, kind, f"in the row that begins in line {line}, {what}", remedy) from error
        yield line, record


def _is_blank(record: Sequence[str], names: Sequence[str]) -> bool:
    """Whether a row is a line of nothing but blanks, where a row would have several fields."""
    return len(record) == 1 != len(names) and not record[0].strip()


def _check_fields(file: Path, names: Sequence[str], rows: Sequence[tuple[int, Sequence[str]]], delimiter: str) -> None:
    wrong = [(line, record) for line, record in rows if len(record) != len(names)]
    if not wrong:
        return
    line, record = wrong[0]
    shown = ", ".join(names[:_NAMES_SHOWN]) + (", …" if len(names) > _NAMES_SHOWN else "")
    sign = "a tab" if delimiter == _TAB else "a comma"
    if all(len(r) == len(names) + 1 and not r[-1] for _, r in rows):
        remedy = f"Every row ends with {sign}: take it away, or end the heading with one too."
    else:
        remedy = f"Put texts that have {sign} or a line's end in them in double quotes."
    raise UsageError(
        f"The data file '{file.name}' has {_fields(len(record))} in line {line}, where its heading has "
        f"{len(names)}: {shown}.",
        remedy,
    )


def _hint(names: Sequence[str], kind: str, delimiter: str) -> str:
    if len(names) == 1 and any(sign in names[0] for sign in _OTHER_DELIMITERS):
        return f"Separate the fields of {kind} by {'tabs' if delimiter == _TAB else 'commas'}."
    return ""


def _fields(count: int) -> str:
    return f"{count} field{'' if count == 1 else 's'}"


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let a field be as long as a document; the module's limit is for the whole process, so it is put back."""
    before = csv.field_size_limit(_MAX_CHARACTERS)
    try:
        yield
    finally:
        csv.field_size_limit(before)
