"""From measurements to figures: ratios, and the goals with what was reached. Pure functions over JSON documents."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from quantized.timing import CASES, SHORT, Measured

FORMAT_NAMES = {"onnx": "ONNX", "tflite": "TFLite", "executorch": "ExecuTorch"}
GOOD, USABLE = 0.99, 0.98
SPEEDUP_GOALS = {"onnx": 3.0, "tflite": 3.5, "executorch": 3.0}
_ALIKE = 1.02
"""Two times or sizes that differ less count as equal."""

Row = dict[str, Any]
Goal = tuple[str, str, str, bool | None]


def rows_of(results: Sequence[Measured]) -> list[Row]:
    """Return a JSON document for each variant, with its ratios to fp32."""
    rows = [_row(result) for result in results]
    base = {r["format"]: r for r in rows if r["maker"] == "ours" and r["title"] == "fp32" and is_measured(r)}
    for row in rows:
        if row["id"].endswith("-plain") and is_measured(row):
            base.setdefault(row["format"], row)
    floats = [r["full"]["cpu_p50"] for r in rows if is_measured(r) and _is_fp32(r)]
    for row in rows:
        own = base.get(row["format"])
        if not is_measured(row):
            continue
        if own is not None:
            row["size_ratio"] = row["size"] / own["size"]
            row["speedup"] = own["full"]["cpu_p50"] / row["full"]["cpu_p50"]
        if floats:
            row["speedup_to_best_fp32"] = min(floats) / row["full"]["cpu_p50"]
            row["sentences_to_best_padded_fp32"] = min(floats) / row["sentences"]["cpu_p50"]
        row["short_share"] = row["short"]["cpu_p50"] / row["full"]["cpu_p50"]
    return rows


def _row(result: Measured) -> Row:
    variant = result.variant
    row: Row = {
        "id": variant.id,
        "format": variant.format,
        "maker": variant.maker,
        "title": variant.title,
        "failure": result.failure,
        "engine_version": result.version,
        "load_seconds": result.load_seconds,
        "size": variant.size,
        "quality": vars(result.quality) if result.quality else None,
    }
    if result.failure is None:
        row |= {case: _times(result, case) for case in CASES if case in result.wall}
    return row


def _times(result: Measured, case: str) -> dict[str, float]:
    wall, cpu = result.wall[case], result.cpu[case]
    return {
        "p50": statistics.median(wall),
        "p90": _p90(wall),
        "cpu_p50": statistics.median(cpu),
        "cpu_p90": _p90(cpu),
        "calls": len(wall),
    }


def _p90(values: list[float]) -> float:
    return statistics.quantiles(values, n=10)[-1] if len(values) > 1 else values[0]


def is_measured(row: Row) -> bool:
    """Whether a variant was timed."""
    return row["failure"] is None and "full" in row


def _is_fp32(row: Row) -> bool:
    return row["title"] in {"fp32", "fp32-fused"} or row["id"].endswith(("-plain", "-ort-fused"))


def is_good(row: Row, minimum: float) -> bool:
    """Whether a variant was timed and has a quality of so much."""
    return is_measured(row) and row["quality"] is not None and row["quality"]["value"] >= minimum


def named(rows: Iterable[Row], format_name: str, precision: str) -> Row | None:
    """Return our variant of a format and precision, if it was measured."""
    return next(
        (
            r
            for r in rows
            if (r["format"], r["maker"], r["title"]) == (format_name, "ours", precision) and is_measured(r)
        ),
        None,
    )


def quickest(rows: Iterable[Row], wanted: Callable[[Row], bool], case: str = "full") -> Row | None:
    """Return the variant with the least CPU time among some."""
    return min((r for r in rows if is_measured(r) and wanted(r)), key=lambda r: r[case]["cpu_p50"], default=None)


def representative(rows: Sequence[Row], format_name: str) -> list[Row]:
    """Return dynamic int8 of a format, the smallest of ours that is good enough, and the quickest of other tools'."""
    own = [r for r in rows if r["format"] == format_name and is_good(r, USABLE) and not _is_fp32(r)]
    ours, theirs = ([r for r in own if (r["maker"] == "ours") is is_ours] for is_ours in (True, False))
    found = [
        named(rows, format_name, "int8-dynamic"),
        min(ours, key=lambda r: r["size_ratio"], default=None),
        quickest(theirs, lambda _: True),
    ]
    return list({row["id"]: row for row in found if row is not None}.values())


def goals(rows: Sequence[Row], scoring: Mapping[str, float]) -> list[Goal]:
    """Return what is wanted of MiniLM at 64 tokens: goal, limit, what was reached, whether that is enough.

    Args:
        rows: its variants, from `rows_of`.
        scoring: by format, the seconds that the sensitivity of all layers took.
    """
    found: list[Goal] = []
    ours = [r for r in rows if r["maker"] == "ours"]
    best = quickest(ours, lambda r: is_good(r, GOOD))
    if best is not None:
        value = best["speedup_to_best_fp32"]
        found.append(
            (
                f"best variant at quality ≥ {GOOD}, against the best engine's fp32",
                "≥ 4×",
                f"{value:.2f}× ({best['id']})",
                value >= 4,
            )
        )
    quick = quickest(ours, lambda r: is_good(r, GOOD), "sentences")
    if quick is not None:
        value = quick["sentences_to_best_padded_fp32"]
        found.append(
            ("sentences of real length, against fp32 padded to 64", "≥ 8×", f"{value:.2f}× ({quick['id']})", value >= 8)
        )
        base = quickest(rows, _is_fp32, "sentences")
        if base is not None:
            value = base["sentences"]["cpu_p50"] / quick["sentences"]["cpu_p50"]
            found.append(("the same, against fp32 at its best length", "", f"{value:.2f}× ({base['id']})", None))
    for name in FORMAT_NAMES:
        found += _format_goals(rows, name)
    mixed = named(rows, "onnx", "mixed")
    control = next((r for r in rows if r["id"] == "onnx-nncf-accuracy-control" and is_measured(r)), None)
    if mixed is not None and control is not None:
        text = " against ".join(_three_figures(r) for r in (mixed, control))
        found.append(("ONNX mixed against NNCF's accuracy control: speed, quality, size", "", text, None))
    if scoring:
        slowest = max(scoring.values())
        found.append(("sensitivity of all layers", "< 120 s", f"{slowest:.0f} s", slowest < 120))
    for precision in ("fp32", "int8-dynamic"):
        pair = [named(rows, name, precision) for name in ("executorch", "tflite")]
        if pair[0] is not None and pair[1] is not None:
            value = pair[0]["full"]["cpu_p50"] / pair[1]["full"]["cpu_p50"]
            found.append((f"ExecuTorch {precision} against TFLite's", "≤ 1.3×", f"{value:.2f}×", value <= 1.3))
    return found


def _format_goals(rows: Sequence[Row], name: str) -> list[Goal]:
    found: list[Goal] = []
    title, minimum = FORMAT_NAMES[name], SPEEDUP_GOALS[name]
    dynamic = named(rows, name, "int8-dynamic")
    if dynamic is not None and "speedup" in dynamic:
        reached = dynamic["speedup"] >= minimum and is_good(dynamic, GOOD) and dynamic["size_ratio"] <= 0.27
        limit = f"≥ {minimum:g}×, ≥ {GOOD}, ≤ 0.27"
        found.append((f"{title} int8-dynamic: speed, quality, size", limit, _three_figures(dynamic), reached))
        short = dynamic["short_share"]
        found.append((f"{title} int8-dynamic: {SHORT} tokens against 64", "< 0.4", f"{short:.2f}", short < 0.4))
    for precision, size, quality in (
        ("int8-static", None, USABLE),
        ("a16w8", None, 0.995),
        ("int8-embedding-int4", 0.20, GOOD),
        ("int4", 0.15, USABLE),
    ):
        row = named(rows, name, precision)
        if row is None or "size_ratio" not in row:
            continue
        reached = is_good(row, quality) and (size is None or row["size_ratio"] <= size)
        limit = f"≥ {quality}" + ("" if size is None else f", ≤ {size:.2f}")
        text = f"{row['quality']['value']:.4f}" + ("" if size is None else f", {row['size_ratio']:.3f}")
        found.append((f"{title} {precision}: quality{'' if size is None else ', size'}", limit, text, reached))
    return found + _against_peers(rows, name)


def _three_figures(row: Row) -> str:
    return f"{row['speedup']:.2f}×, {row['quality']['value']:.4f}, {row['size_ratio']:.3f}"


def _against_peers(rows: Sequence[Row], name: str) -> list[Goal]:
    """Compare with peers: the quickest good ones, and peers that none of ours equals in both speed and quality."""
    own = [r for r in rows if r["format"] == name and r["maker"] == "ours" and is_good(r, 0)]
    peers = [r for r in rows if r["format"] == name and r["maker"] != "ours" and is_good(r, USABLE)]
    if not own or not peers:
        return []
    found: list[Goal] = []
    ours, theirs = (quickest(side, lambda r: is_good(r, GOOD)) for side in (own, peers))
    if ours is not None and theirs is not None:
        value = theirs["full"]["cpu_p50"] / ours["full"]["cpu_p50"]
        text = f"{value:.2f}× ({ours['title']} against {theirs['title']})"
        found.append(
            (
                f"{FORMAT_NAMES[name]}: our quickest at quality ≥ {GOOD}, against the peers'",
                "≥ 1×",
                text,
                value >= 1 / _ALIKE,
            )
        )
    ahead = [p for p in peers if not _is_fp32(p) and not any(_equals(o, p) for o in own)]
    text = "none" if not ahead else "; ".join(f"{p['maker']}'s {p['title']}" for p in ahead)
    goal = f"{FORMAT_NAMES[name]}: peers of quality ≥ {USABLE} that none of ours equals in speed and quality"
    return [*found, (goal, "none", text, not ahead)]


def _equals(ours: Row, theirs: Row) -> bool:
    is_quick = ours["full"]["cpu_p50"] <= theirs["full"]["cpu_p50"] * _ALIKE
    return is_quick and ours["quality"]["value"] >= theirs["quality"]["value"] - 0.0005
