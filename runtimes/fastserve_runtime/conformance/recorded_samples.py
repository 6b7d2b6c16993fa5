"""Samples that were recorded inside a model, on disk: an `.npz` file for each in a folder, named by its number.

Its arrays are `input/NAME` as the model got it, `output/NAME`, and `tensor/N` for the N-th tensor from inside.
"""

from __future__ import annotations

from pathlib import Path

INPUT, OUTPUT, TENSOR = "input/", "output/", "tensor/"
"""What the names of arrays begin with."""


def sample_file(folder: Path, number: int) -> Path:
    """Return where a sample lies in a folder."""
    return folder / f"{number:04d}.npz"


def sample_files(folder: Path) -> dict[int, Path]:
    """Return number of a sample → its file, of all that a folder has."""
    return {int(file.stem): file for file in sorted(folder.glob("*.npz"))}
