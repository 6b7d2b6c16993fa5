"""The loop generates what the whole sequence would, reuses prompts, and ends for a reason."""

from __future__ import annotations

import numpy as np
import pytest

from fastserve_runtime.errors import EnvironmentFailure, InputError
from fastserve_runtime.generation import token_loop
from fastserve_runtime.generation.sampling import Sampler, Sampling
from fastserve_runtime.generation.shared_cache import SharedCacheDecoder
from fastserve_runtime.generation.token_loop import TokenLoop
from fastserve_runtime.loading import open_model

CONTEXT = 64
PROMPT = [int(t) for t in np.random.default_rng(1).integers(0, 256, 12)]


@pytest.fixture
def loop(decoder_file):
    with open_model(decoder_file) as session:
        yield TokenLoop(SharedCacheDecoder(session, context=CONTEXT))


def best() -> Sampler:
    return Sampler(Sampling())


def test_the_likeliest_tokens_are_those_of_the_whole_sequence(loop, greedy) -> None:
    assert list(loop.run(PROMPT, best(), maximum=10)) == greedy(PROMPT, 10)
    assert loop.finish_reason == "length"
    assert loop.held == PROMPT + greedy(PROMPT, 9)


def test_the_beginning_of_a_prompt_is_computed_once(loop, greedy) -> None:
    first = list(loop.run(PROMPT, best(), maximum=5))
    longer = [*PROMPT, *first, 7, 8]
    assert list(loop.run(longer, best(), maximum=5)) == greedy(longer, 5)
    assert loop.reused == len(PROMPT) + 4
    assert list(loop.run(PROMPT, best(), maximum=5)) == first
    assert loop.reused == len(PROMPT) - 1
    other = [PROMPT[0] + 1 if PROMPT[0] < 255 else 0, *PROMPT[1:]]
    assert list(loop.run(other, best(), maximum=3)) == greedy(other, 3)
    assert loop.reused == 0


def test_an_end_token_ends_and_is_given(loop, greedy) -> None:
    wanted = greedy(PROMPT, 10)
    end = wanted[4]
    assert list(loop.run(PROMPT, best(), maximum=10, end_tokens=frozenset({end}))) == wanted[: wanted.index(end) + 1]
    assert loop.finish_reason == "stop"


def test_the_context_ends_it(loop, greedy) -> None:
    prompt = (PROMPT * 6)[:60]
    assert list(loop.run(prompt, best(), maximum=50)) == greedy(prompt, 5)
    assert loop.finish_reason == "context"


def test_a_caller_may_cancel_or_leave(loop, greedy) -> None:
    seen = []
    for token in loop.run(PROMPT, best(), maximum=10, is_cancelled=lambda: len(seen) == 3):
        seen.append(token)  # noqa: PERF402 -- the condition looks at it
    assert (seen, loop.finish_reason) == (greedy(PROMPT, 3), "cancelled")
    for token in loop.run(PROMPT, best(), maximum=10):
        if token:
            break
    assert list(loop.run(PROMPT, best(), maximum=10)) == greedy(PROMPT, 10)


def test_a_long_prompt_is_fed_in_parts_and_can_be_cancelled_between_them(loop, greedy, monkeypatch) -> None:
    monkeypatch.setattr(token_loop, "_PART", 5)
    assert list(loop.run(PROMPT, best(), maximum=6)) == greedy(PROMPT, 6)
    loop.forget()
    asked = iter([False, True])
    assert list(loop.run(PROMPT, best(), maximum=6, is_cancelled=lambda: next(asked))) == []
    assert (loop.finish_reason, loop.held) == ("cancelled", PROMPT[:10])
    assert list(loop.run(PROMPT, best(), maximum=6)) == greedy(PROMPT, 6)
    assert loop.reused == 10


@pytest.mark.parametrize("gives_cache", [True, False])
def test_what_was_held_can_be_held_again(loop, greedy, monkeypatch, gives_cache) -> None:
    first = list(loop.run(PROMPT, best(), maximum=6))
    held, cached = list(loop.held), loop.cached() if gives_cache else {}
    list(loop.run([7, *PROMPT], best(), maximum=3))
    monkeypatch.setattr(token_loop, "_PART", 7)
    loop.restore(held, cached)
    longer = [*PROMPT, *first, 7]
    assert list(loop.run(longer, best(), maximum=5)) == greedy(longer, 5)
    assert loop.reused == len(PROMPT) + 5


def test_a_cache_that_does_not_fit_changes_nothing(loop, greedy) -> None:
    first = list(loop.run(PROMPT, best(), maximum=3))
    with pytest.raises(InputError, match="not one of this model"):
        loop.restore([1, 2, 3], loop.cached())
    assert list(loop.run(PROMPT, best(), maximum=3)) == first
    assert loop.reused == len(PROMPT) - 1


def test_an_interruption_while_forgetting_leaves_the_loop_usable(loop, greedy, monkeypatch) -> None:
    list(loop.run(PROMPT, best(), maximum=3))

    rewind = loop.decoder.rewind

    def interrupted(position):
        rewind(position)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(loop.decoder, "rewind", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(loop.run(PROMPT[:5], best(), maximum=3))
    assert list(loop.run(PROMPT, best(), maximum=9)) == greedy(PROMPT, 9)


def test_repetition_counts_the_prompt_too(loop, expected) -> None:
    penalized = Sampling(repetition_penalty=1e6)
    (token,) = loop.run(PROMPT, Sampler(penalized), maximum=1)
    assert token == Sampler(penalized).next_token(expected(PROMPT), PROMPT)
    assert token not in PROMPT or expected(PROMPT)[token] < 0


def test_what_fails_leaves_the_loop_usable(loop, greedy, monkeypatch) -> None:
    list(loop.run(PROMPT, best(), maximum=3))
    with pytest.raises(InputError, match="no tokens"):
        list(loop.run([], best(), maximum=3))
    with pytest.raises(InputError, match="context of 64"):
        list(loop.run(PROMPT * 6, best(), maximum=3))
    run = loop.decoder._binding.run
    calls = iter([False, False, True])

    def failing():
        if next(calls, False):
            raise EnvironmentFailure("the engine failed")
        return run()

    monkeypatch.setattr(loop.decoder._binding, "run", failing)
    with pytest.raises(EnvironmentFailure):
        list(loop.run(PROMPT, best(), maximum=9))
    assert list(loop.run(PROMPT, best(), maximum=9)) == greedy(PROMPT, 9)
    loop.forget()
    assert (loop.held, loop.decoder.position) == ([], 0)
