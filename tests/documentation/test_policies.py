"""The page of the policies says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from fastserve_runtime.conformance.policy import MIN_METRIC, POLICIES

PAGE = Path(__file__).parents[2] / "docs" / "policies.md"
LIMITS = ("min_sqnr_db", "min_cosine", "max_error", "max_kl", "top1_margin")


def rows(columns: int) -> list[list[str]]:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    split = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [cells for cells in split if len(cells) == columns][1:]


def test_the_table_has_every_limit_and_its_source() -> None:
    written = rows(10)
    assert len(written) == len(POLICIES)
    for cells, row in zip(written, POLICIES, strict=True):
        assert (cells[0], cells[1], cells[2], cells[9]) == (row.judged, row.kind, row.width, row.source)
        found = [re.sub(r" \(.*\)", "", cell) for cell in cells[3:8]]
        wanted = [getattr(row.policy, limit) for limit in LIMITS]
        assert [float(f) if f else None for f in found] == wanted, cells


def test_no_honest_model_was_seen_beyond_a_limit() -> None:
    for cells in rows(10):
        for cell, limit in zip(cells[3:7], LIMITS, strict=False):
            both = re.fullmatch(r"(\S+) \((\S+)\)", cell)
            if both:
                allowed, seen = map(float, both.groups())
                assert seen >= allowed if limit.startswith("min") else seen <= allowed, cells


def test_the_rule_for_the_metric_is_the_codes() -> None:
    assert {cells[0]: float(cells[1]) for cells in rows(3)} == dict(MIN_METRIC)
