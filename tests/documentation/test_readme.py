"""The README is for a user in a hurry: a real example first, few tables and short ones, far down."""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

import demo

LINES = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8").splitlines()
SCREEN = 50
"""Lines."""


def test_two_screens_come_before_the_first_table() -> None:
    assert next(number for number, line in enumerate(LINES) if line.startswith("|")) >= 2 * SCREEN


def test_a_subject_has_one_table_of_ten_rows_at_most() -> None:
    tables = 0
    for kind, lines in groupby(LINES, lambda line: "#" if line.startswith("#") else line[:1] == "|"):
        rows = list(lines)
        if kind == "#":
            tables = 0
        elif kind:
            tables += 1
            assert tables == 1, rows[0]
            assert len(rows) - 2 <= 10, rows[0]


def test_the_example_is_the_demos() -> None:
    model = Path("folder/of/the/model")
    command, *_ = demo.commands(model, demo.BUNDLE)
    assert LINES[LINES.index("<!-- demo output begins -->") + 2] == demo.shown(command, model)
