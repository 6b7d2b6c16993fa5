"""Writes what README.md and the pages of docs/ show of every benchmark again, from the recorded results.

Nothing is measured: this is for a change of what is shown. `python benchmarks/pages.py` takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import export
import faults
import generation
import quantization
import question_answering
import runtime
from report import read_document, write_table

PAGES: Mapping[str, Callable[[Mapping[str, Any]], Mapping[Path, str]]] = {
    "export": export.pages,
    "quantization": quantization.pages,
    "generation": generation.pages,
    "runtime": runtime.pages,
    "faults": faults.pages,
    "question_answering": question_answering.pages,
}
"""For each benchmark: what each page shows of its results."""


def main() -> None:
    """Write all of them."""
    for name, pages in PAGES.items():
        for page, text in pages(read_document(name)).items():
            write_table(page, name, text)


if __name__ == "__main__":
    main()
