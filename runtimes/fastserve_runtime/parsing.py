"""Checked access to the fields of a JSON object from a file that may be damaged or foreign."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar, get_type_hints

from fastserve_runtime.errors import BundleError

T = TypeVar("T")


class Fields:
    """A JSON object whose fields are read with the type that they must have.

    Every method raises BundleError, naming the field, where the field is missing or of another type.
    """

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise BundleError(f"{where} is not a JSON object.")
        self._value = value
        self.where = where

    def text(self, name: str) -> str:
        """Return a string."""
        return self._typed(name, str, "a string")

    def optional_text(self, name: str) -> str | None:
        """Return a string, or None where the field is null."""
        return None if self._required(name) is None else self.text(name)

    def count(self, name: str) -> int:
        """Return an integer that is not negative."""
        value = self._typed(name, int, "a whole number")
        if isinstance(value, bool) or value < 0:
            raise self._wrong(name, "a whole number of at least 0")
        return value

    def has(self, name: str) -> bool:
        """Whether there is a field of that name, whatever it holds."""
        return name in self._value

    def number(self, name: str) -> float:
        """Return a number, whole or not, that is finite."""
        value = self._required(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self._wrong(name, "a number")
        return value

    def optional_number(self, name: str) -> float | None:
        """Return a finite number, or None where the field is null."""
        return None if self._required(name) is None else self.number(name)

    def optional_integer(self, name: str) -> int | None:
        """Return an integer, negative or not, or None where the field is null."""
        if self._required(name) is None:
            return None
        value = self._typed(name, int, "a whole number")
        if isinstance(value, bool):
            raise self._wrong(name, "a whole number")
        return value

    def optional_mapping(self, name: str) -> Mapping[str, Any] | None:
        """Return an object as it is, or None where the field is null."""
        return None if self._required(name) is None else self.mapping(name)

    def flag(self, name: str) -> bool:
        """Return a truth value."""
        return self._typed(name, bool, "true or false")

    def optional_count(self, name: str) -> int | None:
        """Return an integer that is not negative, or None where the field is null."""
        return None if self._required(name) is None else self.count(name)

    def list(self, name: str) -> list[Any]:
        """Return a list."""
        return self._typed(name, list, "a list")

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of strings."""
        values = self.list(name)
        if not all(isinstance(v, str) for v in values):
            raise self._wrong(name, "a list of strings")
        return tuple(values)

    def mapping(self, name: str) -> Mapping[str, Any]:
        """Return an object as it is."""
        return self._typed(name, dict, "an object")

    def object(self, name: str) -> Fields:
        """Return an object whose fields are to be read."""
        return Fields(self._required(name), f"{self.where}.{name}")

    def objects(self, name: str) -> dict[str, Fields]:
        """Return an object whose values are all objects."""
        return {key: Fields(value, f"{self.where}.{name}.{key}") for key, value in self.mapping(name).items()}

    def list_of_objects(self, name: str) -> tuple[Fields, ...]:
        """Return a list of objects."""
        return tuple(Fields(value, f"{self.where}.{name}[{i}]") for i, value in enumerate(self.list(name)))

    def _required(self, name: str) -> Any:
        if name not in self._value:
            raise BundleError(f"{self.where} has no field '{name}'.")
        return self._value[name]

    def _typed(self, name: str, kind: type[T], description: str) -> T:
        value = self._required(name)
        if not isinstance(value, kind):
            raise self._wrong(name, description)
        return value

    def _wrong(self, name: str, description: str) -> BundleError:
        return BundleError(f"{self.where}.{name} is {self._value[name]!r:.80}, not {description}.")


_READERS: Mapping[Any, Callable[[Fields, str], Any]] = {
    str: Fields.text,
    str | None: Fields.optional_text,
    int: Fields.count,
    int | None: Fields.optional_count,
    float: Fields.number,
    float | None: Fields.optional_number,
    bool: Fields.flag,
    tuple[str, ...]: Fields.texts,
    Mapping[str, Any]: Fields.mapping,
}
"""Type of a dataclass' field → how it is read. Whole numbers are counts: a type that has others reads them itself."""


def read(fields: Fields, kind: type[T]) -> T:
    """Read a frozen dataclass whose fields are in a document under their own names.

    Args:
        fields: the document; what it has beside is passed over.
        kind: the dataclass, whose fields have types of `_READERS` or are such dataclasses themselves.

    Raises:
        BundleError: a field is missing or of another kind.
    """
    known: Any = kind
    return kind(**{name: reader(fields, name) for name, reader in _readers(known).items()})


@cache
def _readers(kind: Any) -> dict[str, Callable[[Fields, str], Any]]:
    hints = get_type_hints(kind)
    return {field.name: _reader(hints[field.name]) for field in dataclasses.fields(kind)}


def _reader(hint: Any) -> Callable[[Fields, str], Any]:
    if dataclasses.is_dataclass(hint):
        return lambda fields, name: read(fields.object(name), hint)  # type: ignore[arg-type]  # a class, no instance
    return _READERS[hint]
