"""JSON lines (`.jsonl`, `.ndjson`), and JSON: a list of objects or texts, an object of columns, lines too.

Files in SQuAD's own layout become a row for each question.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from fastserve_converters.data.plain_text import COLUMN
from fastserve_converters.data.squad import squad_rows
from fastserve_converters.data.table import Table, Value, as_value, unreadable
from fastserve_converters.data.text_files import read_utf8

_NO_NUMBER = "NaN"


class _NamedTwice(ValueError):
    """An object has a key twice."""


def read(file: Path) -> Table:
    """Read a file of objects. Numbers, `true` and `false` become texts as they are spelled; `null` is no text.

    Raises:
        UsageError: it is not UTF-8, not JSON, or an object has a key twice; the line or the row is named.
    """
    text = read_utf8(file, "JSON")
    if file.suffix.lower() != ".json":
        return _of_lines(file, text)
    try:
        content = _parse(text) if text.strip() else []
    except json.JSONDecodeError as error:
        if _is_lines(text):
            return _of_lines(file, text)
        raise unreadable(file, "JSON", f"{error.msg} in line {error.lineno}, column {error.colno}") from error
    except _NamedTwice as error:
        raise unreadable(file, "JSON", str(error)) from error
    except RecursionError as error:
        raise unreadable(file, "JSON", "its lists are nested too deeply") from error
    if isinstance(content, Mapping):
        try:
            rows = squad_rows(content)
        except ValueError as error:
            raise unreadable(file, "SQuAD's JSON", str(error)) from error
        return _of_columns(file, content) if rows is None else _of_rows(file, "question", enumerate(rows, 1))
    if not isinstance(content, list):
        raise unreadable(file, "JSON", "it is neither a list nor an object")
    if content and all(isinstance(row, str) for row in content):
        return Table(file, (COLUMN,), "row", range(1, len(content) + 1), lambda _: content)
    return _of_rows(file, "row", enumerate(content, 1))


def _of_lines(file: Path, text: str) -> Table:
    rows = []
    # Not `splitlines`: JSON texts may have U+2028 and the like in them.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append((number, _parse(line)))
        except json.JSONDecodeError as error:
            reason = f"{error.msg} in line {number}, column {error.colno}"
            raise unreadable(file, "JSON lines", reason, "Write one object a line.") from error
        except _NamedTwice as error:
            raise unreadable(file, "JSON lines", f"{error} in line {number}") from error
        except RecursionError as error:
            raise unreadable(file, "JSON lines", f"line {number} is nested too deeply") from error
    return _of_rows(file, "line", rows)


def _of_rows(file: Path, unit: str, rows: Iterable[tuple[int, Any]]) -> Table:
    numbers, objects = [], []
    for number, row in rows:
        if not isinstance(row, Mapping):
            raise unreadable(file, "JSON", f"{unit} {number} is no object", 'Write rows such as {"text": "…"}.')
        numbers.append(number)
        objects.append({key.strip(): value for key, value in row.items()})
    names = tuple(dict.fromkeys(key for row in objects for key in row))

    def values_of(column: int) -> Sequence[Value]:
        return [as_value(row.get(names[column])) for row in objects]

    return Table(file, names, unit, numbers, values_of)


def _of_columns(file: Path, content: Mapping[str, Any]) -> Table:
    """Read an object of lists, or of objects by row as pandas writes them, as columns; any other as the only row."""
    columns = list(content.values())
    if columns and all(isinstance(column, Mapping) for column in columns):
        rows = list(dict.fromkeys(key for column in columns for key in column))
        columns = [[column.get(key) for key in rows] for column in columns]
    elif not columns or not all(isinstance(column, list) for column in columns):
        return _of_rows(file, "row", [(1, content)])
    if len({len(column) for column in columns}) > 1:
        lengths = ", ".join(f"'{name}' {len(column)}" for name, column in content.items())
        raise unreadable(file, "JSON", f"its columns have different lengths: {lengths}")
    names = tuple(name.strip() for name in content)
    numbers = range(1, len(columns[0]) + 1)
    return Table(file, names, "row", numbers, lambda i: [as_value(value) for value in columns[i]])


def _is_lines(text: str) -> bool:
    """Whether the first line that has something is JSON by itself."""
    for line in islice(filter(str.strip, text.split("\n")), 1):
        try:
            json.loads(line)
        except ValueError:
            return False
    return True


def _parse(text: str) -> Any:
    return json.loads(
        text, parse_int=str, parse_float=str, parse_constant=_constant, object_pairs_hook=_without_repetition
    )


def _constant(name: str) -> str | None:
    """Return what Python's own writer makes of a number that is none: pandas' sign for nothing there."""
    return None if name == _NO_NUMBER else name


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = Counter(key.strip() for key, _ in pairs)
    for name, count in names.items():
        if count > 1:
            raise _NamedTwice(f"an object has the key '{name}' twice")
    return dict(pairs)
