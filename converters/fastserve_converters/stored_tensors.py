"""The names and shapes of a checkpoint's tensors, read from its files without PyTorch and without running anything."""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

SAFETENSORS = ".safetensors"
Shape = tuple[int, ...] | None
"""None where the file would have to be unpickled to tell."""


def stored_tensors(files: Sequence[Path]) -> Mapping[str, Shape]:
    """Return the shape of every tensor by its name.

    Nothing is told of a file that cannot be read: loading it says why. The names of a pickle are all its strings, since
    which of them name tensors would show only when it is run.

    Args:
        files: safetensors files, or pickles as `torch.save` writes them.
    """
    found: dict[str, Shape] = {}
    for file in files:
        if file.suffix == SAFETENSORS:
            found.update(_safetensors(file))
        else:
            found.update(dict.fromkeys(_pickled_strings(file)))
    return found


def _safetensors(file: Path) -> dict[str, Shape]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:  # no converter is installed then, which is said before anything is loaded
        return {}
    try:
        with safe_open(str(file), framework="numpy") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118 -- no dict
    except (SafetensorError, OSError):
        return {}


def _pickled_strings(file: Path) -> Iterator[str]:
    try:
        with zipfile.ZipFile(file) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
            for name in pickles:
                for _, argument, _ in pickletools.genops(archive.read(name)):
                    if isinstance(argument, str):
                        yield argument
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return
