"""What follows the Transformer: its modules in order, and how much is kept of their result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastserve_converters.checkpoints.sentence_transformers.modules import SENTENCE, TOKENS, SentenceModule
from fastserve_converters.checkpoints.sentence_transformers.modules.normalize import Normalize
from fastserve_converters.checkpoints.sentence_transformers.modules.pooling import Pooling
from fastserve_converters.checkpoints.sentence_transformers.modules.weighted_layer_pooling import WeightedLayerPooling
from fastserve_runtime.errors import UsageError


@dataclass(frozen=True)
class SentenceHead:
    """What follows the Transformer.

    Attributes:
        modules: in the order in which they are applied; those without effect are left out.
        truncate_dim: so many numbers are kept of the embedding, or None: all of them.
        similarity: how embeddings are compared: `cosine`, `dot`, `euclidean` or `manhattan`.
    """

    modules: tuple[SentenceModule, ...]
    truncate_dim: int | None = None
    similarity: str = "cosine"

    @property
    def pooling(self) -> tuple[str, ...]:
        """The modes whose results are joined."""
        return next(m.modes for m in self.modules if isinstance(m, Pooling))

    @property
    def includes_prompt(self) -> bool:
        """Whether the tokens of a prompt are pooled with the text's."""
        return all(m.includes_prompt for m in self.modules if isinstance(m, Pooling))

    @property
    def normalize(self) -> bool:
        """Whether the embedding has a length of 1, truncation apart."""
        last = self.modules[-1]
        return isinstance(last, Normalize) and last.target == SENTENCE

    @property
    def needs_all_layers(self) -> bool:
        """Whether hidden states of every layer are wanted, and not those of the last alone."""
        return any(isinstance(m, WeightedLayerPooling) for m in self.modules)

    @property
    def weight_folders(self) -> tuple[str, ...]:
        """Folders of the modules that have weights, relative to the checkpoint."""
        return tuple(str(folder) for m in self.modules if (folder := getattr(m, "folder", None)) is not None)

    def settings(self) -> dict[str, Any]:
        """Return how sentences are embedded, for people who read the manifest."""
        found: dict[str, Any] = {"pooling": list(self.pooling), "normalize": self.normalize}
        if self.truncate_dim is not None:
            found["truncate_dim"] = self.truncate_dim
        if self.similarity != "cosine":
            found["similarity"] = self.similarity
        return found


def checked_width(head: SentenceHead, config: Mapping[str, Any]) -> int | None:
    """Return the width of a head's embeddings, None where the config does not tell it, truncation apart.

    Every module must find what it reads, in vectors of the width that it takes.

    Args:
        head: as its files describe it.
        config: the Transformer's `config.json`, which gives the width of its hidden states.

    Raises:
        UsageError: naming the module.
    """
    if not any(isinstance(m, Pooling) for m in head.modules):
        raise UsageError("The checkpoint's modules.json has no Pooling module.", "Add one, or remove modules.json.")
    width = config.get("hidden_size") or config.get("dim")
    widths: dict[str, int | None] = {TOKENS: int(width) if width else None}
    for module in head.modules:
        if module.source not in widths:
            raise UsageError(
                f"The checkpoint's module '{type(module).__name__}' reads '{module.source}', which no module before "
                "it writes.",
                f"Modules before the Pooling read '{TOKENS}', those behind it '{SENTENCE}'.",
            )
        widths[module.target] = module.width_of(widths[module.source])
    return widths[SENTENCE]
