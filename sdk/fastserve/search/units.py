"""Sizes, times and qualities as people write them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from fastserve_runtime.errors import UsageError

_SIZES: Mapping[str, float] = {
    "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "K": 1e3, "M": 1e6, "G": 1e9,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30,
}  # fmt: skip
_TIMES: Mapping[str, float] = {"NS": 1e-9, "US": 1e-6, "µS": 1e-6, "MS": 1e-3, "S": 1, "MIN": 60}
_AGES: Mapping[str, float] = {**_TIMES, "H": 3600, "D": 86400, "W": 604800}
_SHARE = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e([+-]?\d{1,3}))?\s*(%?)\s*", re.ASCII)
_MIN_QUALITY = 0.01
"""What computes anything at all of a model's has more."""
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e([+-]?\d{1,3}))?\s*([A-Za-zµμ]*)\s*")


def parse_size(text: str) -> int:
    """Read a size such as `25MB`, `24MiB` or `25000000` (bytes); powers of 1000 without the 'i', of 1024 with it.

    Raises:
        UsageError: it is not a size, or not above 0.
    """
    size = round(_parse(text, _SIZES, "B", "size", "25MB or 24MiB"))
    if size < 1:
        raise UsageError(f"A size of '{text}' is less than a byte.", "Write it with its unit, such as 25MB or 24MiB.")
    return size


def parse_time(text: str) -> float:
    """Read a time such as `30ms` or `0.03s` and return seconds. A unit is needed.

    Raises:
        UsageError: it is not a time, or not above 0.
    """
    return _parse(text, _TIMES, None, "time", "30ms or 0.03s")


def parse_age(text: str) -> float:
    """Read an age such as `30d`, `12h` or `2w` and return seconds. A unit is needed.

    Raises:
        UsageError: it is not an age, or not above 0.
    """
    return _parse(text, _AGES, None, "time", "30d or 12h")


def parse_quality(text: str) -> float:
    """Read a least quality: a number above 0 and up to 1, or a percentage.

    Raises:
        UsageError: it is not, or so little that everything meets it.
    """
    match = _SHARE.fullmatch(text)
    number, is_percent = (f"{match[1]}e{match[2] or 0}", bool(match[3])) if match else ("nan", False)
    value = float(number) / (100 if is_percent else 1)
    if not 0 < value <= 1:
        hint = f"Did you mean {text.strip()}%? " if not is_percent and 1 < value <= 100 else ""
        raise UsageError(f"'{text}' is not a quality.", f"{hint}Write a number above 0 and up to 1, such as 0.99.")
    if value < _MIN_QUALITY:
        meant = f"Did you mean {float(number):g}? " if is_percent else ""
        raise UsageError(
            f"A least quality of '{text}' is one that everything meets.", f"{meant}Write one such as 0.99 or 99%."
        )
    return value


def _parse(text: str, units: Mapping[str, float], default: str | None, kind: str, example: str) -> float:
    match = _QUANTITY.fullmatch(text)
    unit = (match.group(3).upper().replace("Μ", "µ").replace("µS", "µS") or default) if match else None
    if match is None or unit is None or unit not in units:
        raise UsageError(f"'{text}' is not a {kind}.", f"Write a number with a unit, such as {example}.")
    value = float(f"{match.group(1)}e{match.group(2) or 0}") * units[unit]
    if not 0 < value < math.inf:
        raise UsageError(
            f"A {kind} of '{text}' was given; nothing can fit that.", f"Give one above 0, such as {example}."
        )
    return value
