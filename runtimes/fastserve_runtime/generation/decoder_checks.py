"""What every decoder refuses, in the same words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fastserve_runtime.errors import BundleError, InputError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from fastserve_runtime.sessions.session import Session, Tensor


def check_fed(tokens: Sequence[int], position: int, context: int, vocabulary: int) -> None:
    """Refuse no tokens, more than a context still takes, and ids that the model does not know.

    Args:
        tokens: what is to be fed.
        position: how many the decoder holds.
        context: how many it can hold.
        vocabulary: its ids are those below this.

    Raises:
        InputError: saying which.
    """
    if not len(tokens):
        raise InputError("There are no tokens to feed.", "Feed at least one.")
    if position + len(tokens) > context:
        raise InputError(
            f"{len(tokens)} tokens behind {position} are more than the context of {context} takes.",
            "Shorten the prompt.",
        )
    lowest, highest = min(tokens), max(tokens)
    if lowest < 0 or highest >= vocabulary:
        raise InputError(
            f"The token {lowest if lowest < 0 else highest} is none of the model's, which are 0 to {vocabulary - 1}.",
            "Give tokens of this model's tokenizer.",
        )


def vocabulary_of(session: Session, graph: str) -> int:
    """Return how many ids a decoder knows.

    Raises:
        BundleError: neither its manifest nor what it scores tells.
    """
    if graph not in session.id_rows:
        raise BundleError(f"The graph '{graph}' does not tell how many tokens it scores.", "Export the model again.")
    return session.id_rows[graph]


def check_rewind(position: int, held: int) -> None:
    """Refuse to go back to where a decoder has not been.

    Raises:
        UsageError: it holds fewer tokens.
    """
    if not 0 <= position <= held:
        raise UsageError(f"The decoder holds {held} tokens and cannot go back to {position}.")


def check_cached(
    cached: Mapping[str, Tensor],
    wanted: Mapping[str, tuple[tuple[int, ...], np.dtype[np.generic]]],
    position: int,
    context: int,
) -> None:
    """Refuse a cache that is not one of this model.

    Args:
        cached: what is given.
        wanted: name → shape and dtype of what belongs to so many tokens.
        position: for how many tokens it is.
        context: how many the decoder can hold.

    Raises:
        InputError: it is too long, or an array is missing or does not fit.
    """
    if not 0 <= position <= context:
        raise InputError(f"A cache of {position} tokens does not fit into a context of {context}.")
    for name, (shape, dtype) in wanted.items():
        given = cached.get(name)
        if given is None or given.shape != shape or given.dtype != dtype:
            raise InputError(
                f"The cache '{name}' is not one of this model for {position} tokens.", "Use the model that made it."
            )
