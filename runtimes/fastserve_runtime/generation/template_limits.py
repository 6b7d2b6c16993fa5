"""What a chat template may use up: a clock, a budget of text, and limits for operations that make much from little."""

from __future__ import annotations

import re
import time
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, Sequence, ValuesView
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

_ITEM = 64
"""What an item of a list or dictionary costs, in characters: about the bytes that it takes."""
_LARGEST_VALUE = 4
"""A single value may have this many times the characters of the output."""
_ALL_VALUES = 128
"""All values made during one rendering may have this many times the characters of the output."""
_MAX_BITS = 4096
_WIDEST = 1000
_WIDE_FIELD = re.compile(r"\d{4,}")
_NAME = r"%(?:\([^()]*\))?"
_WIDE_CONVERSION = re.compile(_NAME + r"[#0\- +]*(?:\*|\d{4,}|\d{0,3}\.(?:\*|\d{4,}))|%\([^()]*\(")
"""Fields of `%` that are wide, as wide as an argument says, or whose name has parentheses, which Python pairs."""

Container = (list, tuple, set, frozenset, ItemsView, KeysView, ValuesView)


class LimitReached(Exception):
    """A rendering used up what it may; the text goes on after 'The chat template'."""


@dataclass
class Meter:
    """Measures one rendering. Its methods raise `LimitReached`.

    Attributes:
        max_output: characters that may be rendered.
        max_seconds: how long that may take.
    """

    max_output: int
    max_seconds: float
    _end: float = field(init=False)
    _left: int = field(init=False)
    _output_left: int = field(init=False)

    def __post_init__(self) -> None:
        self._end = time.monotonic() + self.max_seconds
        self._left = self.max_output * _ALL_VALUES
        self._output_left = self.max_output

    def step(self, cost: int) -> None:
        """Account for something that may keep so much, and look at the clock."""
        self._left -= cost
        if self._left < 0:
            raise LimitReached(f"makes values of more than {self.max_output * _ALL_VALUES} characters in all")
        self.tick()

    def tick(self) -> None:
        """Look at the clock."""
        if time.monotonic() > self._end:
            raise LimitReached(f"does not end within {self.max_seconds:g} seconds")

    def emit(self, size: int) -> None:
        """Account for rendered characters."""
        self._output_left -= size
        if self._output_left < 0:
            raise LimitReached(f"makes more than {self.max_output} characters")
        self.tick()

    def fits(self, size: int) -> None:
        """Refuse a value before it is made that is too large for any."""
        if size > self.max_output * _LARGEST_VALUE:
            raise LimitReached(f"makes a value of {size} characters or their like")

    def spend(self, size: int) -> None:
        """Account for a value of that size, made or about to be made."""
        self.fits(size)
        self.step(size)

    def made(self, value: Any) -> Any:
        """Account for a value that was made, and return it."""
        self.spend(self.weight(value))
        return value

    def weight(self, value: Any) -> int:
        """Return about how many characters a value has when written out, shared parts counted each time.

        Stops with `LimitReached` as soon as it is too large for any value, so it takes a bounded time.
        """
        if isinstance(value, str):
            return len(value)
        total, waiting = 0, [value]
        largest = self.max_output * _LARGEST_VALUE
        while waiting:
            item = waiting.pop()
            total += _ITEM
            if isinstance(item, str):
                total += len(item)
            elif isinstance(item, Mapping):
                waiting.extend(item.keys())
                waiting.extend(item.values())
            elif isinstance(item, Container):
                waiting.extend(item)
            if total > largest:
                self.fits(total)
        return total

    def check_operator(self, operator: str, left: Any, right: Any) -> None:
        """Refuse an operation before it is done whose result would be too large."""
        if operator == "%" and isinstance(left, str):
            self.check_format(left, right)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            self._bits(left.bit_length() * right)
        elif operator == "*":
            if isinstance(left, int) and isinstance(right, int):
                self._bits(left.bit_length() + right.bit_length())
            elif isinstance(left, int) and isinstance(right, (str, list, tuple)):
                self.spend(left * self.weight(right) if left > 0 else 0)
            elif isinstance(right, int) and isinstance(left, (str, list, tuple)):
                self.spend(right * self.weight(left) if right > 0 else 0)
        elif operator == "+" and isinstance(left, str) and isinstance(right, str):
            self.fits(len(left) + len(right))

    def check_call(self, name: str, text: str, arguments: Sequence[Any], named: Mapping[str, Any]) -> None:
        """Refuse a method of a string, or the filter of that name, before it makes too much.

        Args:
            name: of the method or filter.
            text: the string.
            arguments: those in order.
            named: those by name.
        """
        given = [*arguments, *named.values()]
        if name == "replace" and len(given) >= 2:
            one, other = str(given[0]), str(given[1])  # in either order, where they are given by name
            self.fits(len(text) + max(text.count(one) * len(other), text.count(other) * len(one) if named else 0))
        elif name in ("center", "ljust", "rjust", "zfill"):
            for width in given:
                self.fits(width if isinstance(width, int) else 0)
        elif name == "indent":
            widths = [width if isinstance(width, int) else self.weight(width) for width in given]
            self.fits(len(text) + (1 + text.count("\n")) * max([4, *widths]))
        elif name == "format":
            self.check_format(text, given)

    def check_join(self, separator: str, items: Iterable[Any]) -> list[Any]:
        """Return the items of a join, refused if they would make too much."""
        kept, total = [], 0
        for item in items:
            kept.append(item)
            total += self.weight(item) + len(separator)
            self.fits(total)
        return kept

    def check_format(self, pattern: str, values: Any) -> None:
        """Refuse a format with very wide fields, or with many of large values."""
        if _WIDE_CONVERSION.search(pattern):
            raise LimitReached(f"formats with fields of more than {_WIDEST} characters, or of variable width")
        self.fits(len(pattern) + pattern.count("%") * (self.weight(values) + _WIDEST))

    def check_field(self, specification: str) -> None:
        """Refuse a very wide field of `str.format`."""
        if _WIDE_FIELD.search(specification):
            raise LimitReached(f"formats with fields of more than {_WIDEST} characters")

    def check_small(self, name: str, values: Iterable[Any]) -> None:
        """Refuse numbers and strings that only small ones are meant for, such as an indentation."""
        for value in values:
            size = abs(value) if isinstance(value, int) else self.weight(value)
            if size > _WIDEST:
                raise LimitReached(f"gives {size} to '{name}', which takes at most {_WIDEST}")

    def _bits(self, count: int) -> None:
        if count > _MAX_BITS:
            raise LimitReached(f"makes a number of about {count} bits")


_current: ContextVar[Meter] = ContextVar("meter")


@contextmanager
def measured_by(meter: Meter) -> Iterator[None]:
    """Let a meter measure the templates rendered in this context, which belongs to one thread or task."""
    token = _current.set(meter)
    try:
        yield
    finally:
        _current.reset(token)


def current_meter() -> Meter:
    """Return the meter that measures the rendering going on here."""
    return _current.get()
