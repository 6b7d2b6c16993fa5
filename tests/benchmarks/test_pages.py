"""What the pages show of the benchmarks is what their scripts make of the recorded results."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from pages import PAGES
from report import read_document, table_in


@pytest.mark.parametrize("name", PAGES)
def test_pages_show_the_recorded_results(name: str) -> None:
    for page, text in PAGES[name](read_document(name)).items():
        assert table_in(page, name) == text, f"{page.name} is not up to date: python benchmarks/pages.py"
