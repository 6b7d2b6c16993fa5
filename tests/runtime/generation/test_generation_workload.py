"""What is timed of a decoder: prompts of one length from an empty cache, and single steps behind them."""

from __future__ import annotations

import numpy as np
import pytest

from fastserve_runtime.generation.decoding_workload import OUTPUT_TOKENS, PROMPT_TOKENS, GenerationWorkload
from fastserve_runtime.generation.traces import LENGTH, PROMPT, SCORED, TOKENS, run_traces, scored_positions
from table_decoder import TableDecoder

VOCABULARY = 11


def inputs_of(*rows: list[int], positions: int = 8) -> dict[str, np.ndarray]:
    inputs = {
        TOKENS: np.array([row + [0] * (positions - len(row)) for row in rows], np.int32),
        LENGTH: np.array([len(row) for row in rows], np.int32),
        PROMPT: np.full(len(rows), 2, np.int32),
        "candidates": np.tile(np.arange(3, dtype=np.int32), (len(rows), positions, 1)),
    }
    return inputs | {SCORED: scored_positions(inputs)}


INPUTS = inputs_of([1, 2, 3, 4, 5], [6, 7, 8], [9, 10])


def three_calls(workload: GenerationWorkload) -> None:
    for index in range(3):
        workload.first_token().call(index)


@pytest.mark.parametrize(
    ("context", "wanted", "tokens"),
    [(400, PROMPT_TOKENS, 128), (256, PROMPT_TOKENS, 128), (100, PROMPT_TOKENS, 50), (400, 7, 7), (3, 128, 1)],
)
def test_prompts_have_the_wanted_tokens_or_half_the_context(context: int, wanted: int, tokens: int) -> None:
    decoder = TableDecoder(VOCABULARY, context)
    workload = GenerationWorkload(decoder, INPUTS, prompt_tokens=wanted)
    workload.run(0)
    assert workload.prompt_tokens == tokens
    assert [len(f) for f in decoder.feeds] == [tokens, 1]


def test_each_prompt_begins_with_another_traces_real_tokens_and_goes_on_with_the_next() -> None:
    decoder = TableDecoder(VOCABULARY, 100)
    three_calls(GenerationWorkload(decoder, INPUTS, prompt_tokens=12))
    assert decoder.calls == [
        "rewind 0",
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1, 2],
        "rewind 0",
        [6, 7, 8, 9, 10, 1, 2, 3, 4, 5, 6, 7],
        "rewind 0",
        [9, 10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
    ]


@pytest.mark.parametrize(("timed", "first"), [(1, [1, 1, 1]), (2, [1, 6, 1]), (None, [1, 6, 9]), (50, [1, 6, 9])])
def test_prompts_are_made_of_so_many_traces_in_turn(timed: int | None, first: list[int]) -> None:
    decoder = TableDecoder(VOCABULARY, 100)
    three_calls(GenerationWorkload(decoder, INPUTS, timed))
    assert [f[0] for f in decoder.feeds] == first


def test_a_step_takes_the_likeliest_token_behind_what_is_held() -> None:
    decoder = TableDecoder(VOCABULARY, 100)
    workload = GenerationWorkload(decoder, INPUTS, prompt_tokens=4)
    tokens = [workload.run(index) for index in range(6)]
    held = [1, 2, 3, 4]
    for token in tokens:
        assert token == int(decoder.scores_behind(held).argmax())
        held.append(token)
    assert decoder.held == held
    assert decoder.calls[:2] == ["rewind 0", [1, 2, 3, 4]]
    assert decoder.feeds[1:] == [[token] for token in tokens]


@pytest.mark.parametrize(("context", "steps"), [(400, OUTPUT_TOKENS), (20, 10), (9, 5)])
def test_decoding_starts_again_behind_the_prompt_before_the_context_ends(context: int, steps: int) -> None:
    decoder = TableDecoder(VOCABULARY, context)
    workload = GenerationWorkload(decoder, INPUTS, prompt_tokens=PROMPT_TOKENS)
    prompt = workload.prompt_tokens
    for index in range(2 * steps + 1):
        workload.run(index)
    again = [i for i, call in enumerate(decoder.calls) if call == f"rewind {prompt}"]
    assert again == [2 + steps, 3 + 2 * steps]  # behind `rewind 0` and the prompt
    assert sum(len(f) > 1 for f in decoder.feeds) == 1


def test_the_time_to_the_first_token_starts_from_nothing() -> None:
    decoder = TableDecoder(VOCABULARY, 100)
    workload = GenerationWorkload(decoder, INPUTS, prompt_tokens=4)
    workload.run(0)
    first = workload.first_token()
    assert first.prompt_tokens == 4
    before = len(decoder.calls)
    first.call(0)
    assert decoder.calls[before:] == ["rewind 0", [1, 2, 3, 4]]
    # What it held is gone, so the next step feeds a prompt first.
    before = len(decoder.calls)
    workload.run(1)
    assert decoder.calls[before:][:2] == ["rewind 0", [6, 7, 8, 9]]


def test_every_trace_is_run_and_timed_and_a_step_afterwards_is_sound() -> None:
    decoder = TableDecoder(VOCABULARY, 100)
    workload = GenerationWorkload(decoder, INPUTS, 1, prompt_tokens=4)
    workload.run(0)
    outputs, seconds = workload.run_all()
    alone = run_traces(TableDecoder(VOCABULARY, 100), INPUTS)
    assert outputs.keys() == alone.keys()
    for name, expected in alone.items():
        np.testing.assert_array_equal(outputs[name], expected)
    assert len(seconds) == 3
    assert all(s >= 0 for s in seconds)
    assert workload.run(0) == int(decoder.scores_behind([1, 2, 3, 4]).argmax())
