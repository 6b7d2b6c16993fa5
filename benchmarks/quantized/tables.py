"""The tables in the README and in `docs/measurements.md`, from the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from quantized.figures import FORMAT_NAMES, USABLE, Row, goals, is_good, is_measured, representative

_ENGINES = {"onnx": "ONNX Runtime", "tflite": "LiteRT", "executorch": "ExecuTorch"}

Column = tuple[str, Callable[[Row], str], Callable[[Row], float | None]]


def summary(results: Mapping[str, Any]) -> str:
    """Write what goes into the README: the most telling rows of each format, and how many goals are met."""
    subject = results["subjects"]["minilm64"]
    rows = subject["variants"]
    shown = [row for name in FORMAT_NAMES for row in representative(rows, name)]
    caption = (
        f"{subject['title']}, 1 thread, {results['machine']}; {_engines(results)}. Size and speed are against our fp32 "
        "in the same engine; *sentence* is the median over sentences at their own length. Of each format: dynamic "
        f"int8, our smallest of quality ≥ {USABLE}, and the quickest of other tools of that quality."
    )
    lines = [
        caption,
        "",
        *_rows(shown, [(name, text, _unmarked) for name, text, _ in (*_COLUMNS, _QUALITY) if name != "short"]),
        "",
        _told_goals(subject),
    ]
    return "\n".join(lines)


def tables(results: Mapping[str, Any]) -> str:
    """Write everything."""
    subjects = results["subjects"]
    parts = [_caption(results)]
    if "minilm64" in subjects:
        parts += ["**Goals and what was reached**, MiniLM at 64 tokens:", _goals(subjects["minilm64"])]
        parts += [_title(subjects["minilm64"]), _variants(subjects["minilm64"])]
    if "classifier" in subjects:
        subject = subjects["classifier"]
        parts += [_title(subject) + " " + _accuracy_note(subject), _accuracy(subject)]
    if "minilm128" in subjects:
        subject = subjects["minilm128"]
        parts += [_title(subject), _variants(subject)]
    if results["profiles"]:
        parts += ["**Where the time goes, by operator**", _profiles(results["profiles"])]
    return "\n\n".join(parts)


def _caption(results: Mapping[str, Any]) -> str:
    return (
        f"{results['machine']}; {_engines(results)}; 1 thread; {results['rounds']} rounds of {results['calls']} calls, "
        "every other round in the opposite order. p90 by the clock, ratios of the medians of CPU time. *Speed* is "
        "against our fp32 in the same engine at full length; *sentence* is the median over the evaluation's sentences "
        "at their own length, padded where a graph takes one length only; *short* is 15 tokens against all. In each "
        f"format the best of every column is bold: of size and time among variants of quality ≥ {USABLE}, of quality "
        "among those that are at most half as large as fp32."
    )


def _engines(results: Mapping[str, Any]) -> str:
    return ", ".join(f"{_ENGINES[name]} {version}" for name, version in results["engines"].items())


def _title(subject: Mapping[str, Any]) -> str:
    return f"**{subject['title']}**"


def _goals(subject: Mapping[str, Any]) -> str:
    words = {True: "yes", False: "**no**", None: ""}
    found = goals(subject["variants"], subject["sensitivity_seconds"])
    lines = ["| goal | wanted | reached | |", "|---|---|---|---|"]
    lines += [f"| {goal} | {limit} | {reached} | {words[is_met]} |" for goal, limit, reached, is_met in found]
    return "\n".join(lines)


def _told_goals(subject: Mapping[str, Any]) -> str:
    verdicts = [
        is_met for *_, is_met in goals(subject["variants"], subject["sensitivity_seconds"]) if is_met is not None
    ]
    return f"Of {len(verdicts)} goals that were set before, {sum(verdicts)} are met."


def _is_quantized(row: Row) -> bool:
    return is_measured(row) and row.get("size_ratio", 1.0) <= 0.5


def _if_good(figure: Callable[[Row], float]) -> Callable[[Row], float | None]:
    return lambda row: figure(row) if is_good(row, USABLE) else None


_COLUMNS: tuple[Column, ...] = (
    ("size", lambda r: f"{r['size_ratio']:.3f}", _if_good(lambda r: r["size_ratio"])),
    ("p90", lambda r: f"{r['full']['p90'] * 1e3:.1f} ms", _if_good(lambda r: r["full"]["p90"])),
    ("speed", lambda r: f"{r['speedup']:.2f}×", _if_good(lambda r: -r["speedup"])),
    ("sentence", lambda r: f"{r['sentences']['p50'] * 1e3:.1f} ms", _if_good(lambda r: r["sentences"]["p50"])),
    ("short", lambda r: f"{r['short_share']:.2f}", _if_good(lambda r: r["short_share"])),
)
_QUALITY: Column = (
    "quality",
    lambda r: f"{r['quality']['value']:.4f}",
    lambda r: -r["quality"]["value"] if _is_quantized(r) else None,
)
_ACCURACY: Column = (
    "accuracy",
    lambda r: f"{r['quality']['beside']['accuracy']:.1%}",
    lambda r: -r["quality"]["beside"]["accuracy"] if _is_quantized(r) else None,
)


def _unmarked(_: Row) -> None:
    """Mark no row of a column as the best."""


def _variants(subject: Mapping[str, Any]) -> str:
    return _table(subject["variants"], (*_COLUMNS, _QUALITY))


def _accuracy(subject: Mapping[str, Any]) -> str:
    return _table(subject["variants"], (*_COLUMNS[:3], _ACCURACY, _QUALITY))


def _accuracy_note(subject: Mapping[str, Any]) -> str:
    known = next((r["quality"] for r in subject["variants"] if r["quality"] is not None), None)
    if known is None:
        return ""
    reference = known["beside"]["reference's accuracy"]
    return (
        f"Accuracy on {known['samples']} sentences that it was not trained on; the reference's is {reference:.1%}. "
        "*Quality* is their ratio."
    )


def _table(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    lines = _rows(rows, columns)
    failed = [r for name in FORMAT_NAMES for r in rows if r["format"] == name and r["failure"] is not None]
    if failed:
        told = (f"{FORMAT_NAMES[r['format']]} {r['title']} ({r['maker']}): {r['failure'].rstrip('.')}" for r in failed)
        lines += ["", f"Not measured: {'; '.join(told)}."]
    return "\n".join(lines)


def _rows(rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    """Return the lines of a table of those that were measured, format by format; the best of each format is bold."""
    names = [name for name, _, _ in columns]
    lines = [f"| variant | made by | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for format_name, title in FORMAT_NAMES.items():
        own = [r for r in rows if r["format"] == format_name]
        shown = [r for r in own if is_measured(r) and "speedup" in r]
        best = {name: min((k for r in shown if (k := key(r)) is not None), default=None) for name, _, key in columns}
        for row in shown:
            cells = [
                f"**{text(row)}**" if best[name] is not None and _is_best(key(row), best[name]) else text(row)
                for name, text, key in columns
            ]
            maker = "FastServe" if row["maker"] == "ours" else row["maker"]
            lines.append(f"| {title} {row['title']} | {maker} | {' | '.join(cells)} |")
    return lines


def _is_best(value: float | None, best: float | None) -> bool:
    # What is printed alike is marked alike.
    return value is not None and best is not None and abs(value - best) <= 1e-3 * abs(best)


def _profiles(profiles: Mapping[str, Any]) -> str:
    parts = []
    for name, rows in profiles.items():
        if isinstance(rows, str):
            parts.append(f"{name}: {rows}")
            continue
        lines = [f"{name}:", "", "| operator | calls | ms | share |", "|---|---|---|---|"]
        lines += [
            f"| {row['operator']} | {row['calls']:g} | {row['milliseconds']:.2f} | {row['share']:.0%} |" for row in rows
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
