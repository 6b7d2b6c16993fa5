"""Checked access to the fields of a request's JSON object. A field that is null counts as left out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from fastserve_runtime.serving.refusal import Refusal

_LONGEST_SHOWN = 60


PROMPT_NAME = "prompt_name"
"""The field of requests for whole texts that names what is put before each."""


class RequestFields:
    """A request's fields, read with the type and the range that they must have.

    Every method raises a Refusal with status 400 that names the field.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def value(self, name: str) -> Any:
        """Return a field as it came, None if it was left out."""
        return self._document.get(name)

    def text(self, name: str) -> str | None:
        """Return a string."""
        value = self.value(name)
        if value is not None and not isinstance(value, str):
            raise wrong(name, value, "a string")
        return value

    def flag(self, name: str) -> bool:
        """Return a boolean, False if it was left out."""
        value = self.value(name)
        if value is not None and not isinstance(value, bool):
            raise wrong(name, value, "true or false")
        return bool(value)

    def mapping(self, name: str) -> dict[str, Any]:
        """Return an object, an empty one if it was left out."""
        value = self.value(name)
        if value is not None and not isinstance(value, dict):
            raise wrong(name, value, "an object")
        return value or {}

    def integer(self, name: str, minimum: int, maximum: int) -> int | None:
        """Return an integer between two bounds, which it may reach."""
        value = self.value(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
            raise wrong(name, value, f"an integer from {minimum} to {maximum}")
        return value

    def number(self, name: str, minimum: float, maximum: float) -> float | None:
        """Return a number between two bounds, which it may reach."""
        value = self.value(name)
        if value is None:
            return None
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not minimum <= value <= maximum:  # a NaN is in no range
            bound = f"from {minimum:g} to {maximum:g}" if math.isfinite(maximum) else f"of at least {minimum:g}"
            raise wrong(name, value, f"a number {bound}")
        return float(value)

    def only(self, name: str, *values: Any) -> None:
        """Refuse a field that asks for what this server does not do.

        Args:
            name: the field.
            values: those that ask for nothing of the kind; so does a field that was left out.
        """
        value = self.value(name)
        # `True == 1` in Python, not in JSON.
        is_harmless = value is None or any(
            value == known and isinstance(value, bool) == isinstance(known, bool) for known in values
        )
        if not is_harmless:
            remedy = f"Leave it out, or give {_listed(values)}." if values else "Leave it out."
            raise Refusal(
                400, f"{name} is {shown(value)}, which this server does not support. {remedy}", parameter=name
            )


def message_text(value: Any, place: str) -> str:
    """Return a value that must be a string; raise a Refusal that names the place otherwise."""
    if not isinstance(value, str):
        raise wrong(place, value, "a string")
    return value


def wrong(name: str, value: Any, wanted: str) -> Refusal:
    """Return the refusal of a field's value.

    Args:
        name: the field, or a place inside it, such as `messages[1].role`.
        value: what it is.
        wanted: what it must be.
    """
    return Refusal(400, f"{name} is {shown(value)}. Give {wanted}.", parameter=name)


def shown(value: Any) -> str:
    """Return a value as messages show it: short, and in the words of JSON."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    if isinstance(value, (list, dict)):
        text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"


def _listed(values: tuple[Any, ...]) -> str:
    return " or ".join(map(shown, values))
