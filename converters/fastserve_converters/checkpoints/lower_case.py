"""Lower case as sentence-transformers makes it: by a step in front of the tokenizer's own normalization.

So the bundle's `tokenizer.json` does it, in every runtime that reads it. Special tokens in a text stay as they are.
"""

from __future__ import annotations

from typing import Any


def with_lower_case(tokenizer: Any) -> Any:
    """Return a fast tokenizer of Transformers, changed so that it makes texts lower case first."""
    from tokenizers.normalizers import Lowercase, Sequence

    backend = tokenizer.backend_tokenizer
    own = backend.normalizer
    # A Sequence has no iterator that is typed.
    steps = [own[i] for i in range(len(own))] if isinstance(own, Sequence) else [own] if own is not None else []
    if not any(isinstance(step, Lowercase) for step in steps):
        backend.normalizer = Sequence([Lowercase(), *steps])
    return tokenizer
