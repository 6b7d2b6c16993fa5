"""The benchmark's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_COLUMNS = (
    ("decode, 1 threads", "decode"),
    ("prefill 128, 1 threads", "prefill 128"),
    ("prefill 512, 1 threads", "prefill 512"),
    ("decode, 2 threads", "decode, 2 threads"),
)
_WITHIN = 0.99
"""Only those whose perplexity is so near the reference's are compared as equals."""


def table(rows: Sequence[Mapping[str, Any]], heading: str) -> str:
    """Return the table, with speeds relative to the quickest llama.cpp whose perplexity is within 1 %."""
    peers = [r for r in rows if r["kind"] == "llama.cpp"]
    faithful = [r for r in peers if r["perplexity_ratio"] >= _WITHIN] or peers
    best = {key: max(_speed(r, key) for r in faithful) for key, _ in _COLUMNS}
    names = {key: max(faithful, key=lambda r, key=key: _speed(r, key))["name"] for key, _ in _COLUMNS}
    heads = ["contender", "perplexity ratio", "MB", "peak memory", *(title for _, title in _COLUMNS)]
    lines = [heading, "", f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    for row in rows:
        memory = row["peak_memory"].get("1")
        cells = [
            row["name"],
            f"{row['perplexity_ratio']:.3f}",
            f"{row['bytes'] / 1e6:.0f}",
            "-" if memory is None else f"{memory / 1e6:.0f} MB",
            *(f"{_speed(row, key):.0f} ({_speed(row, key) / best[key]:.2f})" for key, _ in _COLUMNS),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    bests = sorted(set(names.values()))
    lines.append("")
    lines.append(
        f"Tokens per second of processor time, medians; in brackets divided by the quickest llama.cpp of a perplexity "
        f"ratio of {_WITHIN} or more ({', '.join(bests)}). With 2 threads by the clock."
    )
    return "\n".join(lines)


def _speed(row: Mapping[str, Any], key: str) -> float:
    clock = "cpu" if key.endswith("1 threads") else "wall"
    found: float = row["tokens_per_second"][f"{key}, {clock}"]["p50"]
    return found
