"""The loop of generating: the prompt, then a token at a time, until something ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from fastserve_runtime.errors import InputError
from fastserve_runtime.generation.context import common_prefix
from fastserve_runtime.generation.finish import FinishReason

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastserve_runtime.generation.sampling import Sampler
    from fastserve_runtime.generation.token_decoder import TokenDecoder
    from fastserve_runtime.sessions.session import Tensor

_PART = 512
"""So many tokens of a prompt are fed between two looks at whether the caller still wants them."""


class TokenLoop:
    """Generates tokens with one decoder, whose cache it reuses from one prompt to the next.

    Attributes:
        held: the tokens in the decoder's cache.
        finish_reason: why the last generation ended; None while one goes on.
        reused: how many tokens of the last prompt were in the cache already.
    """

    def __init__(self, decoder: TokenDecoder) -> None:
        self.decoder = decoder
        self.held: list[int] = []
        self.finish_reason: FinishReason | None = None
        self.reused = 0

    def run(
        self,
        prompt: Sequence[int],
        sampler: Sampler,
        *,
        maximum: int,
        end_tokens: frozenset[int] = frozenset(),
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[int]:
        """Yield new tokens one by one; one that ends the text is yielded too.

        Leaving the iterator early ends the generation; the next one starts from what is in the cache then.

        Args:
            prompt: at least one token, and fewer than the context takes.
            sampler: chooses among the scores.
            maximum: how many tokens at most, at least 1.
            end_tokens: those that end the text.
            is_cancelled: asked before each token, and between the parts of a long prompt.

        Raises:
            InputError: the prompt is empty or too long.
            EnvironmentFailure: the engine failed; the cache starts anew then.
        """
        self.finish_reason = None
        # At least one token is fed, since scores come of feeding.
        self.reused = min(common_prefix(self.held, prompt), max(len(prompt) - 1, 0))
        self._forget_from(self.reused)
        fresh = prompt[self.reused :]
        self._check_room(fresh)
        scores = self._feed(fresh[:_PART])
        for start in range(_PART, len(fresh), _PART):
            if is_cancelled():
                self.finish_reason = "cancelled"
                return
            scores = self._feed(fresh[start : start + _PART])
        seen = list(prompt)
        for count in range(1, maximum + 1):
            if is_cancelled():
                self.finish_reason = "cancelled"
                return
            token = sampler.next_token(scores, seen)
            seen.append(token)
            if token in end_tokens or sampler.is_complete:
                self.finish_reason = "stop"
            elif count == maximum:
                self.finish_reason = "length"
            elif self.decoder.position == self.decoder.context:
                self.finish_reason = "context"
            yield token
            if self.finish_reason is not None:
                return
            scores = self._feed([token])

    def forget(self) -> None:
        """Start the next prompt with an empty cache."""
        self._forget_from(0)

    def cached(self) -> dict[str, Tensor]:
        """Return copies of what the decoder keeps of the tokens held; empty where it does not give it away."""
        return self.decoder.cached()

    def restore(self, tokens: Sequence[int], cached: Mapping[str, Tensor]) -> None:
        """Hold these tokens, as if they had been fed.

        Args:
            tokens: what was held before.
            cached: what `cached` returned then; where it is empty, the tokens are fed again.

        Raises:
            InputError: it does not fit this decoder, which then holds what it held.
            EnvironmentFailure: the engine failed.
        """
        if cached:
            self.decoder.restore(cached, len(tokens))
            self.held = list(tokens)
            return
        self.forget()
        for start in range(0, len(tokens), _PART):
            self._feed(tokens[start : start + _PART])

    def _forget_from(self, position: int) -> None:
        # In this order: whatever interrupts it, what is held is never more than what the decoder has.
        del self.held[position:]
        self.decoder.rewind(position)

    def _check_room(self, tokens: Sequence[int]) -> None:
        if len(self.held) + len(tokens) > self.decoder.context:
            raise InputError(
                f"{len(tokens)} tokens behind {len(self.held)} are more than the context of {self.decoder.context} "
                "takes.",
                "Shorten the prompt.",
            )

    def _feed(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        try:
            scores = self.decoder.feed(tokens)
        except BaseException:
            # Whatever of it was written, the tokens before are sound.
            self.decoder.rewind(min(len(self.held), self.decoder.position))
            del self.held[self.decoder.position :]
            raise
        self.held += tokens
        return scores
