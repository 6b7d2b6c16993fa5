"""Telling GGUF checkpoints from others, and the files that one is split into."""

from __future__ import annotations

import re
from pathlib import Path

from fastserve_runtime.errors import UsageError

SUFFIX = ".gguf"
_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")
_OTHER_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt")
_MAX_NAMED = 4


def find_gguf(path: Path) -> Path | None:
    """Return the GGUF file that a path means, or None where it means another kind of checkpoint.

    A file that is named is the model, whatever lies beside it. A directory is a GGUF checkpoint where it has GGUF files
    and no other weights. Of a checkpoint that is split into parts, the first is returned.

    Args:
        path: a `.gguf` file, or a directory.

    Raises:
        UsageError: the directory has several, or a part is missing.
    """
    if path.suffix == SUFFIX and path.is_file():
        return parts_of(path)[0]
    if not path.is_dir() or _has_other_weights(path):
        return None
    found = gguf_files(path)
    firsts = sorted({parts_of(f)[0] for f in found})
    if len(firsts) > 1:
        raise UsageError(f"'{path}' has {len(firsts)} GGUF files: {named(firsts)}.", "Name the one to export.")
    return firsts[0] if firsts else None


def gguf_files(directory: Path) -> list[Path]:
    """Return the GGUF files in a directory, by name."""
    return sorted(f for f in directory.glob(f"*{SUFFIX}") if f.is_file())


def parts_of(file: Path) -> list[Path]:
    """Return the files that a checkpoint is split into, first to last; the one file if it is whole.

    Raises:
        UsageError: one of them is missing.
    """
    match = _PART.fullmatch(file.name)
    if match is None:
        return [file]
    name, _, count = match.groups()
    parts = [file.with_name(f"{name}-{i + 1:05}-of-{count}{SUFFIX}") for i in range(int(count))]
    missing = next((part for part in parts if not part.is_file()), None)
    if missing is not None or not parts:
        raise UsageError(
            f"'{file.name}' is one of {int(count)} parts of a checkpoint, and "
            f"'{file.name if missing is None else missing.name}' is not beside it.",
            "Put all parts into one folder.",
        )
    return parts


def named(files: list[Path]) -> str:
    """Return the names of some files, as words of a sentence."""
    names = ", ".join(f.name for f in files[:_MAX_NAMED])
    return names if len(files) <= _MAX_NAMED else f"{names} and {len(files) - _MAX_NAMED} more"


def _has_other_weights(directory: Path) -> bool:
    if (directory / "modules.json").is_file():
        return True
    return (directory / "config.json").is_file() and any(any(directory.glob(p)) for p in _OTHER_WEIGHTS)
