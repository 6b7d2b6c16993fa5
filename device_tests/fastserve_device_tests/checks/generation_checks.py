"""The checks that only models with a cache of keys and values need: it holds what the tokens say, however they came.

The same file on the same machine must give the same scores, up to the order of summation, whichever way its cache was
filled: float precisions are judged by the policy for one executor. Where activations become integers at run time, that
order decides how single values are rounded, and layer upon layer makes much of it; such files are judged as against the
reference. A cache that holds anything else gives scores that have nothing in common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fastserve_device_tests.checks.subject import Subject
from fastserve_runtime.conformance.policy import (
    LOG_PROBABILITIES,
    Judgement,
    comparable,
    invariance_policy,
    judge,
)
from fastserve_runtime.conformance.verdict import Verdict
from fastserve_runtime.conformance.widths import width_of
from fastserve_runtime.errors import FastServeError, InputError
from fastserve_runtime.generation.token_decoder import TokenDecoder
from fastserve_runtime.generation.traces import log_softmax, traces
from fastserve_runtime.pipelines.text_generation.pipeline import open_decoder

STEPS = "prefill against decoding"
CHUNKS = "padding of chunks"
REUSE = "cache reuse"
OVERFLOW = "context overflow"
_LENGTHS = (1, 2, 3, 5, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200)
"""Prompts of so many tokens are fed at once: around the sizes of the chunks that files have."""
_PROMPTS = 4

Scores = NDArray[np.float64]


def generation_checks(subject: Subject) -> Iterator[Verdict]:
    """Yield the verdicts of all of them."""
    decoder = open_decoder(subject.session)
    prompts = [t.tokens.tolist()[: decoder.context] for t in traces(subject.golden.inputs)]
    several = sorted(prompts, key=len)[-_PROMPTS:]
    yield _compared(subject, STEPS, several, lambda p: (_fed(decoder, [p]), _fed(decoder, [[t] for t in p])))
    longest = several[-1]
    cuts = [longest[:n] for n in _LENGTHS if n < len(longest)]
    yield _compared(subject, CHUNKS, cuts, lambda p: (_fed(decoder, [p, longest[len(p) :]]), _fed(decoder, [longest])))
    yield _compared(subject, REUSE, several, lambda p: (_reused(decoder, p), _fed(decoder, [p])))
    yield _check_overflow(subject, decoder, longest)


def _fed(decoder: TokenDecoder, parts: Sequence[Sequence[int]]) -> Scores:
    """Return an empty decoder's log-probabilities behind some tokens that come in parts."""
    decoder.rewind(0)
    for part in parts:
        scores = decoder.feed(part)
    return log_softmax(scores)


def _reused(decoder: TokenDecoder, prompt: list[int]) -> Scores:
    """Return its log-probabilities behind a prompt whose beginning is left from another one."""
    kept = len(prompt) // 2
    other = prompt[:kept] + prompt[kept:][::-1]
    decoder.rewind(0)
    decoder.feed(other)
    decoder.rewind(kept)
    return log_softmax(decoder.feed(prompt[kept:]))


def _compared(
    subject: Subject,
    check: str,
    prompts: Sequence[list[int]],
    both: Callable[[list[int]], tuple[Scores, Scores]],
) -> Verdict:
    """Judge what comes of two ways of filling the cache, for each prompt."""
    pairs = [both(prompt) for prompt in prompts]
    actual, expected = (np.stack(rows) for rows in zip(*pairs, strict=True))
    judgement = _judged(subject, expected, actual)
    return subject.verdict(check, judgement, "the next token's probabilities depend on how the tokens came: ")


def _judged(subject: Subject, expected: Scores, actual: Scores) -> Judgement:
    policy = invariance_policy(LOG_PROBABILITIES, width_of(subject.variant))
    left, right = (comparable(LOG_PROBABILITIES, values) for values in (expected, actual))
    return judge(policy, left, right)


def _check_overflow(subject: Subject, decoder: TokenDecoder, prompt: list[int]) -> Verdict:
    """A full context refuses more with a clear error, and what it held stays as it was."""
    before = _fed(decoder, [prompt])
    whole = (prompt * (decoder.context // len(prompt) + 1))[: decoder.context]
    decoder.rewind(0)
    decoder.feed(whole)
    reason = ""
    try:
        decoder.feed(prompt[:1])
        reason = f"a token behind the {decoder.context} of the context was taken"
    except InputError:
        if decoder.position != decoder.context:
            reason = "the refused token changed what the cache holds"
    except FastServeError as error:
        reason = f"a token too many gave another error than that of wrong input: {error}"
    decoder.rewind(len(prompt) - 1)
    after = log_softmax(decoder.feed(prompt[-1:]))
    same = _judged(subject, before[None], after[None])
    reasons = [r for r in (reason, same.reason) if r]
    return subject.verdict(OVERFLOW, Judgement(not reasons, "; ".join(reasons), same.figures))
