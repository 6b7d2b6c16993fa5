"""Traces: token sequences that a decoder is made to follow, and its log-probabilities of each next token.

A trace's first tokens are fed at once, as a prompt is; the others one by one, whatever the decoder itself would have
chosen (teacher forcing). These log-probabilities are kept for a few candidates only, the likeliest ones of the
reference: a whole vocabulary for each token would make goldens of many megabytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastserve_runtime.generation.token_decoder import TokenDecoder
    from fastserve_runtime.sessions.session import Tensor, Tensors

TOKENS, LENGTH, PROMPT, CANDIDATES, SCORED = "tokens", "length", "prompt", "candidates", "scored"
INPUTS = (TOKENS, LENGTH, PROMPT, CANDIDATES, SCORED)
"""Of traces: ids, int32 [traces, positions]; how many of them are real, int32 [traces]; how many of these are fed at
once, int32 [traces]; candidates for what follows each position, int32 [traces, positions, candidates], likeliest first;
whether what follows a position is looked at, bool [traces, positions]."""

LOG_PROBABILITIES, NEXT_TOKEN = "log_probabilities", "next_token"
"""A decoder's log-probabilities, float32, zeros where it is not looked at: the natural logarithms of the candidates'
probabilities and of the likeliest other token's, [traces, positions, candidates + 1]; and of the token that follows in
the trace, [traces, positions, 1]."""


@dataclass(frozen=True)
class Trace:
    """One trace without padding.

    Attributes:
        tokens: ids.
        prompt: so many of them are fed at once, at least 1.
        candidates: shape [positions, candidates].
    """

    tokens: NDArray[np.int32]
    prompt: int
    candidates: NDArray[np.int32]


def traces(inputs: Tensors) -> Iterator[Trace]:
    """Give the traces of padded arrays."""
    rows = zip(inputs[TOKENS], inputs[LENGTH], inputs[PROMPT], inputs[CANDIDATES], strict=True)
    for tokens, length, prompt, candidates in rows:
        yield Trace(tokens[: int(length)], int(prompt), candidates)


def fed_at_once(trace: Trace) -> NDArray[np.int32]:
    """Return a trace's tokens but the last, so that what is scored behind them is in its outputs; one alone stays."""
    return trace.tokens[: max(1, len(trace.tokens) - 1)]


def run_traces(decoder: TokenDecoder, inputs: Tensors) -> dict[str, Tensor]:
    """Make a decoder follow traces.

    Args:
        decoder: it is used from its first position on.
        inputs: see `INPUTS`.

    Raises:
        InputError: a trace is longer than the decoder's context.
    """
    outputs = empty_outputs(inputs)
    for row, trace in enumerate(traces(inputs)):
        decoder.rewind(0)
        fed = 0
        for position in range(trace.prompt - 1, len(trace.tokens) - 1):
            scores = decoder.feed(trace.tokens[fed : position + 1].tolist())
            fed = position + 1
            record(outputs, row, position, scores, trace)
    return outputs


def empty_outputs(inputs: Tensors) -> dict[str, Tensor]:
    """Return outputs for traces, all zeros, to be filled by `record`."""
    import numpy as np

    count, positions, candidates = inputs[CANDIDATES].shape
    return {
        LOG_PROBABILITIES: np.zeros((count, positions, candidates + 1), np.float32),
        NEXT_TOKEN: np.zeros((count, positions, 1), np.float32),
    }


def record(outputs: Tensors, row: int, position: int, scores: NDArray[np.floating], trace: Trace) -> None:
    """Write down a decoder's log-probabilities of the token behind a position.

    Args:
        outputs: of `empty_outputs`.
        row: which trace.
        position: which of its tokens; there must be one behind it.
        scores: of every token of the vocabulary, shape [vocabulary].
        trace: the trace.
    """
    import numpy as np

    likelihoods = log_softmax(scores)
    candidates = trace.candidates[position]
    outputs[NEXT_TOKEN][row, position, 0] = likelihoods[trace.tokens[position + 1]]
    outputs[LOG_PROBABILITIES][row, position, :-1] = likelihoods[candidates]
    likelihoods[candidates] = -np.inf
    outputs[LOG_PROBABILITIES][row, position, -1] = likelihoods.max()


def log_softmax(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return natural logarithms of probabilities over the last axis, in double precision."""
    import numpy as np

    shifted = np.asarray(scores, np.float64) - np.max(scores, axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def scored_positions(inputs: Tensors) -> NDArray[np.bool_]:
    """Return where traces of some lengths and prompts are looked at, shape [traces, positions]."""
    import numpy as np

    places = np.arange(inputs[TOKENS].shape[1])
    prompt, length = (np.asarray(inputs[name], np.int64)[:, None] for name in (PROMPT, LENGTH))
    return np.asarray((places >= prompt - 1) & (places < length - 1))
