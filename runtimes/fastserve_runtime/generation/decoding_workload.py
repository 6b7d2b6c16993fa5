"""What is timed of a decoder: the time to the first token and the time per output token, as MLPerf defines them.

MLPerf Inference (its rules for large language models) counts the first from the query to the first token, and the
second as the mean time between tokens of a query. Here a prompt of fixed length is fed, and each decoding step behind
it is one observation.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastserve_runtime.generation.traces import TOKENS, run_traces, traces
from fastserve_runtime.sessions.workload import FirstTokenCall

if TYPE_CHECKING:
    from fastserve_runtime.generation.token_decoder import TokenDecoder
    from fastserve_runtime.sessions.session import Tensor, Tensors

PROMPT_TOKENS = 128
"""Tokens of the timed prompts, or half the context where that is less."""
OUTPUT_TOKENS = 64
"""So many tokens are decoded behind a prompt before it starts again from there."""


class GenerationWorkload:
    """Runs traces, and times prompts and decoding steps. The tokens fed in timed calls are those of the traces."""

    def __init__(
        self, decoder: TokenDecoder, inputs: Tensors, timed: int | None = None, *, prompt_tokens: int = PROMPT_TOKENS
    ) -> None:
        """Take over a decoder; see `fastserve_runtime.sessions.workload.OpenWorkload`."""
        self.decoder = decoder
        self._inputs = inputs
        count = max(1, min(prompt_tokens, decoder.context // 2))
        self._prompts = _prompts([t.tokens for t in traces(inputs)], count, timed or len(inputs[TOKENS]))
        self._end = min(count + OUTPUT_TOKENS, decoder.context)
        self._scores: Any = None

    @property
    def prompt_tokens(self) -> int:
        """How many tokens the timed prompts have."""
        return len(self._prompts[0])

    def run(self, index: int) -> object:
        """Do one decoding step behind a prompt, which was fed before; sampling is greedy."""
        if self._scores is None:
            self._scores = self._first_token(index)
        if self.decoder.position >= self._end:
            self.decoder.rewind(self.prompt_tokens)
        token = int(np.argmax(self._scores))
        self._scores = self.decoder.feed([token])
        return token

    def run_all(self) -> tuple[dict[str, Tensor], list[float]]:
        """Run every trace; see `Workload.run_all`."""
        outputs, seconds = [], []
        for row in range(len(self._inputs[TOKENS])):
            started = time.perf_counter()
            outputs.append(run_traces(self.decoder, {n: v[row : row + 1] for n, v in self._inputs.items()}))
            seconds.append(time.perf_counter() - started)
        self._scores = None
        return {name: np.concatenate([o[name] for o in outputs]) for name in outputs[0]}, seconds

    def first_token(self) -> FirstTokenCall:
        """Return what feeds a prompt; a step behind it begins with the next prompt."""
        return FirstTokenCall(self.prompt_tokens, self._first_token)

    def _first_token(self, index: int) -> Any:
        self._scores = None
        self.decoder.rewind(0)
        scores = self.decoder.feed(self._prompts[index % len(self._prompts)])
        int(np.argmax(scores))
        return scores


def _prompts(sequences: Sequence[Any], count: int, maximum: int) -> list[list[int]]:
    """Return prompts of exactly so many tokens, made of real ones, each beginning with another sequence."""
    found = []
    for first in range(min(maximum, len(sequences))):
        tokens = np.concatenate([*sequences[first:], *sequences[:first]])
        found.append(np.resize(tokens, count).tolist())
    return found
