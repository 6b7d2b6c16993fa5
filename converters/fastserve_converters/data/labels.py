"""What is written in a column of labels, as ids of classes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fastserve_converters.data.table import Table, Value
from fastserve_runtime.errors import UsageError

_ID = re.compile(r"(0|[1-9][0-9]*)(\.0+)?")
"""A class's id; tools that know no missing integers write it as `1.0`."""


def label_ids(table: Table, column: str, labels: Sequence[str]) -> list[int | None]:
    """Return the ids of a column's labels, one a row; None where nothing is written.

    Args:
        table: the data.
        column: its column of labels, each a class's name or id.
        labels: the names of the classes in the order of their ids.

    Raises:
        UsageError: a label is none that the model knows.
    """
    return [_label_id(value, labels, table, row) for row, value in enumerate(table.values(column))]


def _label_id(value: Value, labels: Sequence[str], table: Table, row: int) -> int | None:
    if value is None:
        return None
    text = str(value)
    for spelling in (text, text.strip()):
        if spelling in labels:
            return labels.index(spelling)
    if not text.strip():
        return None
    number = _ID.fullmatch(text.strip())
    if number and int(number.group(1)) < len(labels):
        return int(number.group(1))
    raise UsageError(
        f"The data file '{table.file.name}' has the label '{text.strip()}' in {table.unit} {table.numbers[row]}, "
        "which the model does not know.",
        f"It knows: {', '.join(labels)}.",
    )
