"""`LayerNorm`: the embedding is normalized over its numbers, with weights."""

from __future__ import annotations

from dataclasses import dataclass

from fastserve_converters.checkpoints.sentence_transformers.config_file import ConfigFile
from fastserve_converters.checkpoints.sentence_transformers.modules import SENTENCE
from fastserve_runtime.errors import UsageError


@dataclass(frozen=True)
class LayerNorm:
    """PyTorch's LayerNorm over the embedding.

    Attributes:
        folder: of its weights.
        width: of the embedding.
    """

    folder: str
    width: int
    source: str = SENTENCE
    target: str = SENTENCE

    def width_of(self, width: int | None) -> int:
        """Return its width.

        Raises:
            UsageError: the input is of another width.
        """
        if width is not None and width != self.width:
            raise UsageError(
                f"The checkpoint's '{self.folder}' takes vectors of {self.width} numbers; what is before it gives "
                f"{width}.",
                "Check the dimension in its config.json.",
            )
        return self.width


def read(config: ConfigFile, folder: str) -> LayerNorm:
    """Read a LayerNorm module.

    Raises:
        UsageError: its dimension is missing, or a key is not understood.
    """
    config.check_keys(("dimension",))
    return LayerNorm(folder, config.value("dimension", int))
