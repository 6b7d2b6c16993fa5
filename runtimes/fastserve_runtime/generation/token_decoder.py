"""The seam between generating text and engines: a model that takes tokens and scores the next one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastserve_runtime.sessions.session import Tensor


class TokenDecoder(Protocol):
    """A decoder with its cache of keys and values.

    Attributes:
        context: how many tokens it can hold.
        position: how many it holds.
        vocabulary: its tokens have the ids below this.
    """

    context: int
    vocabulary: int
    position: int

    def feed(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Take tokens behind those it holds.

        Returns:
            Scores of the token that comes next, shape [vocabulary]; the next call overwrites them.

        Raises:
            InputError: there are none, more than the context still takes, or one that the model does not know.
            UsageError: the session is closed, or busy in another thread.
            EnvironmentFailure: the engine failed.
        """

    def rewind(self, position: int) -> None:
        """Forget the tokens from a position on.

        Raises:
            UsageError: it holds fewer.
        """

    def cached(self) -> dict[str, Tensor]:
        """Return copies of what it keeps of the tokens it holds; empty where the engine does not give it away.

        The tokens must be fed again then, rather than restored.
        """

    def restore(self, cached: Mapping[str, Tensor], position: int) -> None:
        """Take what `cached` returned for so many tokens.

        Raises:
            InputError: it does not fit this model.
        """
