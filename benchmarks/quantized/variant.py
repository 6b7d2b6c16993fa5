"""A model file that is measured, and how it is opened."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENGINE_OF = {"onnx": "onnxruntime", "tflite": "litert", "executorch": "executorch"}


@dataclass(frozen=True)
class Variant:
    """One of ours or of a peer's.

    Attributes:
        id: `format-name`.
        format: `onnx`, `tflite` or `executorch`.
        maker: `ours`, or whose tool it is.
        title: for the tables.
        file: the model; None where it could not be made.
        graphs: entry points as a manifest describes them; None for a file that tells its own names.
        failure: why there is no file.
    """

    id: str
    format: str
    maker: str
    title: str
    file: Path | None = None
    graphs: Mapping[str, Any] | None = None
    failure: str | None = None

    @property
    def is_ours(self) -> bool:
        """Whether `fastserve export` made it."""
        return self.maker == "ours"

    @property
    def size(self) -> int:
        """Bytes of the model file."""
        return self.file.stat().st_size if self.file else 0

    def digest(self) -> str:
        """Return what tells it from others: its content and its entry points."""
        assert self.file is not None
        content = hashlib.sha256(self.file.read_bytes()).hexdigest()
        return f"{content} {self.graphs}"
