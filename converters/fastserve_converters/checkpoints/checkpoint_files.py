"""Which files of a checkpoint's folder may be read: all but those that no reader here opens.

Steps get a folder of exactly these, so what is left out here cannot be read by accident; what is taken in needlessly
only costs reading it once, and exporting again when it changes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_OF_OTHERS = (
    ".gguf", ".ggml", ".onnx", ".onnx_data", ".pb", ".h5", ".msgpack", ".ot", ".tflite", ".pte", ".mlmodel", ".rknn",
    ".engine", ".npz", ".parquet", ".arrow", ".csv", ".tsv",
)  # fmt: skip
"""Models for other libraries, and data."""
_NO_MODEL = (
    ".md", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".pdf", ".html", ".ipynb", ".log", ".zip", ".gz", ".tar",
    ".xz", ".zst", ".mp4", ".wav", ".mp3", ".pyc",
)  # fmt: skip
_NO_MODEL_NAMES = re.compile(r"(LICEN[CS]E|COPYING|NOTICE)(\..*)?|events\.out\.tfevents.*", re.IGNORECASE)
_TRAINER_STATE = re.compile(r"checkpoint-\d+")
_CODE = ".py"


def readable_files(root: Path, *, pickles: bool) -> tuple[Path, ...]:
    """Return the files in a checkpoint's folder and those below it that may be read, in a fixed order.

    Left out are hidden ones, those of other libraries' formats, texts and pictures about the model, finished bundles,
    and the states that a trainer saves on its way.

    Args:
        root: the folder.
        pickles: whether pickles may be read.
    """
    others = _OF_OTHERS + _NO_MODEL + (() if pickles else PICKLES)
    found = (f for f in _files(root, {root.resolve()}) if not f.name.lower().endswith(others))
    return tuple(sorted(f for f in found if not _NO_MODEL_NAMES.fullmatch(f.name) or f.suffix == _CODE))


def _files(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Yield files as a reader would reach them: through links too, but not in circles."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.name.startswith("."):
                continue
            place = folder / entry.name
            if entry.is_file():
                yield place
            elif entry.is_dir() and not _TRAINER_STATE.fullmatch(entry.name) and not _is_bundle(place):
                real = place.resolve()
                if real not in seen:
                    yield from _files(place, seen | {real})


def _is_bundle(folder: Path) -> bool:
    return (folder / "manifest.json").is_file() and (folder / "variants").is_dir()
