"""`WeightedLayerPooling`: the hidden states of several layers become a weighted mean."""

from __future__ import annotations

from dataclasses import dataclass

from fastserve_converters.checkpoints.sentence_transformers.config_file import ConfigFile
from fastserve_converters.checkpoints.sentence_transformers.modules import TOKENS


@dataclass(frozen=True)
class WeightedLayerPooling:
    """The mean of the hidden states from a layer on, with learnt weights; the embeddings count as layer 0.

    Attributes:
        folder: of its weights.
        first_layer: the first that counts.
        layers: of the model; the embeddings apart.
    """

    folder: str
    first_layer: int
    layers: int
    source: str = TOKENS
    target: str = TOKENS

    def width_of(self, width: int | None) -> int | None:
        """Return the width that it is given."""
        return width


def read(config: ConfigFile, folder: str) -> WeightedLayerPooling:
    """Read a WeightedLayerPooling module.

    Raises:
        UsageError: a key is not understood, or the first layer is none of the model's.
    """
    config.check_keys(("embedding_dimension", "word_embedding_dimension", "layer_start", "num_hidden_layers"))
    layers = config.value("num_hidden_layers", int, default=12)
    first = config.value("layer_start", int, default=4)
    if not 0 <= first <= layers:
        raise config.wrong("layer_start", f"Write 0 to {layers}.")
    return WeightedLayerPooling(folder, first, layers)
