"""Recorded samples are found by their numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastserve_runtime.conformance.recorded_samples import sample_file, sample_files


@pytest.mark.parametrize(("number", "name"), [(0, "0000.npz"), (23, "0023.npz"), (12345, "12345.npz")])
def test_a_file_is_named_by_its_samples_number(number: int, name: str) -> None:
    assert sample_file(Path("folder"), number) == Path("folder", name)


def test_samples_are_found_in_order_and_other_files_are_left_out(tmp_path: Path) -> None:
    for number in (12, 3, 200):
        sample_file(tmp_path, number).touch()
    (tmp_path / "run.json").touch()
    found = sample_files(tmp_path)
    assert found == {number: sample_file(tmp_path, number) for number in (3, 12, 200)}
    assert list(found) == [3, 12, 200]
