"""Under which licence a checkpoint is passed on, as its files say."""

from __future__ import annotations

import re
from pathlib import Path

LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "COPYING")
MODEL_CARD = "README.md"
_CARD_HEAD = re.compile(r"---\s*\n(.*?)\n---", re.DOTALL)
# The value may also be the first of a list, on the next line.
_LICENCE_LINE = re.compile(r"^license:[ \t]*(?:\n[ \t]*-[ \t]+)?['\"]?(\w[\w.\-]*)", re.MULTILINE)


def licence_files(folder: Path) -> tuple[Path, ...]:
    """Return the licence and model card files in a checkpoint's folder."""
    return tuple(folder / name for name in (*LICENCE_FILES, MODEL_CARD) if (folder / name).is_file())


def licence_of(folder: Path) -> str | None:
    """Return the licence that the YAML head of the folder's model card names (Hugging Face's format), or None."""
    card = folder / MODEL_CARD
    if not card.is_file():
        return None
    head = _CARD_HEAD.match(card.read_text(encoding="utf-8", errors="replace"))
    line = _LICENCE_LINE.search(head.group(1)) if head else None
    return line.group(1) if line else None
