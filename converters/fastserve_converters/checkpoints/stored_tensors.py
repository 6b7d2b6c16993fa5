"""The names and shapes of a checkpoint's tensors, read from its files without PyTorch and without running anything."""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from fastserve_runtime.errors import UsageError, one_line

SAFETENSORS = ".safetensors"
_POINTER = b"version https://git-lfs"
Shape = tuple[int, ...] | None
"""None where the file would have to be unpickled to tell."""


def stored_tensors(files: Sequence[Path]) -> Mapping[str, Shape]:
    """Return the shape of every tensor by its name.

    Nothing is told of a file that cannot be read: loading it says why. The names of a pickle are all its strings, since
    which of them name tensors would show only when it is run.

    Args:
        files: safetensors files, or pickles as `torch.save` writes them.

    Raises:
        UsageError: a file is not there itself, but only what Git LFS leaves in its place.
    """
    found: dict[str, Shape] = {}
    for file in files:
        if file.suffix == SAFETENSORS:
            found.update(_safetensors(file))
        else:
            found.update(dict.fromkeys(_pickled_strings(file)))
    return found


def stored_types(files: Sequence[Path]) -> Mapping[str, str]:
    """Return the type of numbers of every tensor in safetensors files, in their words (`F32`, `BF16`, `I8`).

    Raises:
        UsageError: a file is damaged.
    """
    files = [file for file in files if file.suffix == SAFETENSORS]
    return {name: kind for file in files for name, (kind, _) in _headers(file).items()}


def is_real(kind: str) -> bool:
    """Whether a type of numbers is one of fractions, which says by itself what a stored number means."""
    return kind.startswith(("F", "BF"))


def _safetensors(file: Path) -> dict[str, Shape]:
    refuse_pointer(file)
    try:
        return {name: shape for name, (_, shape) in _headers(file).items()}
    except UsageError:
        return {}


def refuse_pointer(file: Path) -> None:
    """Refuse what Git LFS leaves in the place of a large file that it was not asked for.

    Raises:
        UsageError: with what gets the file.
    """
    with suppress(OSError), file.open("rb") as stream:
        if stream.read(len(_POINTER)) == _POINTER:
            raise UsageError(
                f"The checkpoint's '{file.name}' is a pointer of Git LFS, and not the weights that it stands for.",
                "Get them with 'git lfs pull', or download the file itself.",
            )


def _headers(file: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:  # no converter is installed then, which is said before anything is loaded
        return {}
    try:
        with safe_open(str(file), framework="numpy") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 -- no dict
            return {name: (str(s.get_dtype()), tuple(s.get_shape())) for name, s in slices.items()}
    except (SafetensorError, OSError) as error:
        raise UsageError(
            f"The checkpoint's '{file.name}' cannot be loaded: {one_line(error)}.", "Copy or download it again."
        ) from error


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
