"""Sizes and times as people read them."""

from __future__ import annotations


def format_size(size: float) -> str:
    """Write bytes in the unit that suits them, powers of 1000: `23.4 MB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size:.0f} B"


def format_time(seconds: float) -> str:
    """Write seconds in the unit that suits them: `5.3 ms`."""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    if seconds >= 1e-3:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds * 1e6:.0f} µs"
