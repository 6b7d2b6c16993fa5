"""The benchmark's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

_COLUMNS = (
    ("decode, 1 threads", "decode"),
    ("prefill 128, 1 threads", "prefill 128"),
    ("prefill 512, 1 threads", "prefill 512"),
    ("decode, 2 threads", "decode, 2 threads"),
)
_IN_SHORT = ("decode", "prefill 512")
"""Columns of the short table."""
_WITHIN = 0.99
"""Only those whose perplexity is so near the reference's are compared as equals."""


def table(rows: Sequence[Row], heading: str) -> str:
    """Return a row for each contender, with speeds relative to the quickest llama.cpp of a perplexity within 1 %."""
    return _table(rows, rows, heading, _COLUMNS)


def short_table(rows: Sequence[Row], heading: str) -> str:
    """Return the same for our int8 and int4, and for what the other tools make of the model themselves."""
    shown = [row for row in rows if _is_in_short(row)]
    return _table(rows, shown, heading, tuple(c for c in _COLUMNS if c[1] in _IN_SHORT))


def _is_in_short(row: Row) -> bool:
    name: str = row["name"]
    if row["kind"] == "ours":
        return name.endswith(("-int8", "-int4")) and "embedding" not in name
    return "shipped" not in name and " our " not in name


def _table(rows: Sequence[Row], shown: Sequence[Row], heading: str, columns: Sequence[tuple[str, str]]) -> str:
    peers = [r for r in rows if r["kind"] == "llama.cpp"]
    faithful = [r for r in peers if r["perplexity_ratio"] >= _WITHIN] or peers
    best = {key: max(_speed(r, key) for r in faithful) for key, _ in columns}
    names = {key: max(faithful, key=lambda r, key=key: _speed(r, key))["name"] for key, _ in columns}
    heads = ["contender", "perplexity ratio", "MB", "peak memory", *(title for _, title in columns)]
    lines = [heading, "", f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    for row in shown:
        memory = row["peak_memory"].get("1")
        cells = [
            row["name"],
            f"{row['perplexity_ratio']:.3f}",
            f"{row['bytes'] / 1e6:.0f}",
            "-" if memory is None else f"{memory / 1e6:.0f} MB",
            *(f"{_speed(row, key):.0f} ({_speed(row, key) / best[key]:.2f})" for key, _ in columns),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    by_the_clock = " With 2 threads by the clock." if any("2 threads" in key for key, _ in columns) else ""
    note = (
        "Tokens per second of processor time, medians; in brackets divided by the quickest llama.cpp of a perplexity "
        f"ratio of {_WITHIN} or more ({', '.join(sorted(set(names.values())))}).{by_the_clock}"
    )
    return "\n".join([*lines, "", note])


def _speed(row: Row, key: str) -> float:
    clock = "cpu" if key.endswith("1 threads") else "wall"
    found: float = row["tokens_per_second"][f"{key}, {clock}"]["p50"]
    return found
