"""Telling GGUF checkpoints from others."""

from __future__ import annotations

import re
from pathlib import Path

from fastserve_converters.gguf_files.header import SUFFIX
from fastserve_runtime.errors import UsageError

_PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")


def find_gguf(path: Path) -> Path | None:
    """Return the GGUF file that a path means, or None where it means another kind of checkpoint.

    Args:
        path: a `.gguf` file, or a directory without `config.json` that has one.

    Raises:
        UsageError: the directory has several, or the file is one part of a split checkpoint.
    """
    if path.suffix == SUFFIX and path.is_file():
        found = path
    elif path.is_dir() and not any((path / name).is_file() for name in ("config.json", "modules.json")):
        files = sorted(f for f in path.glob(f"*{SUFFIX}") if f.is_file())
        whole = [f for f in files if not _PART.search(f.name)]
        if len(whole) > 1:
            raise UsageError(
                f"'{path}' has {len(whole)} GGUF files: {', '.join(f.name for f in whole)}.", "Name the one to export."
            )
        if not files:
            return None
        found = (whole or files)[0]
    else:
        return None
    part = _PART.search(found.name)
    if part and int(part.group(1)) > 1:
        raise UsageError(
            f"'{found.name}' is one of {int(part.group(1))} parts of a checkpoint.",
            "Join them first: llama-gguf-split --merge FIRST_PART WHOLE_FILE",
        )
    return found
