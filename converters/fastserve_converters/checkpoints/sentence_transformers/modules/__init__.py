"""The modules of sentence-transformers that are carried: one file each, which reads its `config.json`.

What they compute is in `fastserve_converters.models.sentence_reference` (as sentence-transformers does it) and in
`fastserve_converters.models.sentence_pooling` (in the form that is exported).
"""

from __future__ import annotations

from typing import Protocol

TOKENS = "token_embeddings"
SENTENCE = "sentence_embedding"
"""What modules read and write by default, in sentence-transformers' words: vectors of tokens, [n, tokens, d], and the
embedding, [n, d]."""


class SentenceModule(Protocol):
    """A module behind the Transformer, as its files describe it.

    Attributes:
        source: the name of what it reads.
        target: the name of what it writes.
    """

    @property
    def source(self) -> str:
        """The name of what it reads."""

    @property
    def target(self) -> str:
        """The name of what it writes."""

    def width_of(self, width: int | None) -> int | None:
        """Return the width of what it writes, given the width of what it reads; None where that is unknown.

        Raises:
            UsageError: it does not take that width.
        """
