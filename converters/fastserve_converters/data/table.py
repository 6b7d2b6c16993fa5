"""A data file as a table of texts, whatever kind it is of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from fastserve_runtime.errors import UsageError

Value: TypeAlias = str | list[Any] | dict[str, Any] | None
"""What stands in a column: a text as the file spells it, None where there is nothing, or a list or an object."""


@dataclass(frozen=True)
class Table:
    """The content of a data file.

    Attributes:
        file: where it was read.
        names: of the columns, without blanks around them; a name may stand there twice.
        unit: what `numbers` count: `line` or `row`.
        numbers: of each row, counted from 1; where a row has several lines, that of the first.
        values_of: column's index → its values, one a row.
        is_plain: whether the file has one unnamed column of texts.
        hint: a sentence for whoever misses a column.
    """

    file: Path
    names: tuple[str, ...]
    unit: str
    numbers: Sequence[int]
    values_of: Callable[[int], Sequence[Value]]
    is_plain: bool = False
    hint: str = ""

    def has(self, column: str) -> bool:
        """Whether there is a column of that name."""
        return column.strip() in self.names

    def values(self, column: str, flag: str = "--text-column") -> Sequence[Value]:
        """Return a column's values, one a row.

        Args:
            column: its name.
            flag: by which another one is named, for whoever misses it.

        Raises:
            UsageError: there is no such column, or there are several.
        """
        name = column.strip()
        if name not in self.names:
            raise UsageError(
                f"The data file '{self.file.name}' has no column '{name}'.",
                f"It has: {', '.join(self.names)}. {self.hint or f'Name one with {flag}.'}",
            )
        if self.names.count(name) > 1:
            raise UsageError(
                f"The data file '{self.file.name}' has {self.names.count(name)} columns '{name}'.",
                "Rename all but one of them.",
            )
        return self.values_of(self.names.index(name))

    def texts(self, column: str, flag: str = "--text-column") -> list[str]:
        """Return a column's texts, one a row; where there is none, an empty one. See `values`.

        Raises:
            UsageError: there is no such column, there are several, or a value is no text that UTF-8 can hold.
        """
        return [self._text(value, row, column) for row, value in enumerate(self.values(column, flag))]

    def place(self, row: int) -> str:
        """Return the words for where a row is, by its index: `line 3 of 'reviews.csv'`."""
        return f"{self.unit} {self.numbers[row]} of '{self.file.name}'"

    def _text(self, value: Value, row: int, column: str) -> str:
        if value is None:
            return ""
        if not isinstance(value, str):
            kind = "a list" if isinstance(value, list) else "an object"
            raise UsageError(f"The column '{column}' has {kind} in {self.place(row)}.", "Write one text there.")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"The text in {self.place(row)} has half of a surrogate pair, U+{ord(value[error.start]):04X}.",
                "Write the whole sign.",
            ) from error
        return value


def as_value(value: Any) -> Value:
    """Return a value of a typed file as texts: numbers as Python writes them, `true` and `false`, bytes as UTF-8.

    Raises:
        UnicodeDecodeError: bytes are no UTF-8.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, Mapping):
        return {str(key): as_value(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_value(member) for member in value]
    return str(value)


def unreadable(file: Path, kind: str, reason: str, remedy: str = "") -> UsageError:
    """Return the error for a file that is not what its name's ending says."""
    return UsageError(f"The data file '{file.name}' cannot be read as {kind}: {reason}.", remedy)
