"""`Normalize`: vectors get a length of 1."""

from __future__ import annotations

from dataclasses import dataclass

from fastserve_converters.checkpoints.sentence_transformers.config_file import ConfigFile
from fastserve_converters.checkpoints.sentence_transformers.modules import SENTENCE

_KNOWN = ("module_input_name", "module_output_name")


@dataclass(frozen=True)
class Normalize:
    """Divides vectors by their Euclidean length."""

    source: str = SENTENCE
    target: str = SENTENCE

    def width_of(self, width: int | None) -> int | None:
        """Return the width that it is given."""
        return width


def read(config: ConfigFile) -> tuple[Normalize, tuple[str, ...]]:
    """Read a Normalize module, and notes on keys that sentence-transformers passes over."""
    source = config.value("module_input_name", str, default=SENTENCE)
    notes = tuple(
        f"{config.name} has '{key}', which sentence-transformers passes over; so does the bundle."
        for key in config.unknown_keys(_KNOWN)
    )
    return Normalize(source, config.optional("module_output_name", str) or source), notes
