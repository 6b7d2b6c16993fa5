"""Decoders follow traces: their log-probabilities of each next token is written where it is looked at."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fastserve_runtime.errors import InputError
from fastserve_runtime.generation.shared_cache import SharedCacheDecoder
from fastserve_runtime.generation.traces import (
    CANDIDATES,
    LENGTH,
    LOG_PROBABILITIES,
    NEXT_TOKEN,
    PROMPT,
    SCORED,
    TOKENS,
    log_softmax,
    run_traces,
    scored_positions,
    traces,
)
from fastserve_runtime.loading import open_model
from table_decoder import TableDecoder

POSITIONS, VOCABULARY = 8, 11
SCORES = st.integers(1, 20).flatmap(lambda n: arrays.arrays(np.float32, n, elements=st.floats(-80, 80, width=32)))


def inputs_of(*rows: tuple[list[int], int], positions: int = POSITIONS, candidates: int = 3) -> dict[str, np.ndarray]:
    """Traces, each of tokens and how many of them are fed at once; candidates are made up."""
    count = len(rows)
    random = np.random.default_rng(0)
    inputs = {
        TOKENS: np.array([tokens + [0] * (positions - len(tokens)) for tokens, _ in rows], np.int32),
        LENGTH: np.array([len(tokens) for tokens, _ in rows], np.int32),
        PROMPT: np.array([prompt for _, prompt in rows], np.int32),
        CANDIDATES: np.array(
            [[random.permutation(VOCABULARY)[:candidates] for _ in range(positions)] for _ in range(count)], np.int32
        ),
    }
    return inputs | {SCORED: scored_positions(inputs)}


@given(SCORES)
def test_logarithms_of_probabilities_sum_to_one_and_keep_the_differences(scores) -> None:
    found = log_softmax(scores)
    assert np.exp(found).sum() == pytest.approx(1)
    np.testing.assert_allclose(found - found[0], scores.astype(float) - float(scores[0]), atol=1e-9)


@given(SCORES, st.floats(-1e4, 1e4))
def test_adding_a_number_to_all_scores_changes_no_probability(scores, shift: float) -> None:
    np.testing.assert_allclose(log_softmax(scores.astype(float) + shift), log_softmax(scores), atol=1e-9)


def test_scores_far_apart_overflow_nothing_and_rows_are_taken_by_themselves() -> None:
    np.testing.assert_allclose(log_softmax(np.array([1e4, 0.0])), [0, -1e4])
    rows = np.array([[1.0, 2.0], [5.0, 3.0]])
    np.testing.assert_allclose(log_softmax(rows), [log_softmax(rows[0]), log_softmax(rows[1])])


@given(st.lists(st.tuples(st.integers(1, POSITIONS), st.integers(1, POSITIONS)), min_size=1, max_size=5))
def test_scored_is_what_follows_the_prompt_up_to_the_last_token(rows: list[tuple[int, int]]) -> None:
    rows = [(length, min(prompt, length)) for length, prompt in rows]
    scored = scored_positions(inputs_of(*(([1] * length, prompt) for length, prompt in rows)))
    assert scored.shape == (len(rows), POSITIONS)
    assert scored.dtype == bool
    for found, (length, prompt) in zip(scored, rows, strict=True):
        assert found.nonzero()[0].tolist() == list(range(prompt - 1, length - 1))


def test_traces_come_without_their_padding() -> None:
    first, second = traces(inputs_of(([4, 5, 6], 2), ([7] * POSITIONS, 1)))
    assert (first.tokens.tolist(), first.prompt) == ([4, 5, 6], 2)
    assert (len(second.tokens), second.prompt) == (POSITIONS, 1)
    assert first.candidates.shape == (POSITIONS, 3)


def test_a_prompt_is_fed_at_once_and_then_the_traces_own_tokens_one_by_one() -> None:
    decoder = TableDecoder(VOCABULARY, POSITIONS)
    run_traces(decoder, inputs_of(([4, 5, 6, 7], 2), ([3, 2], 2), ([8, 9, 1], 1)))
    # The last token of a trace is only judged; a trace that is all prompt is not fed at all.
    assert decoder.calls == ["rewind 0", [4, 5], [6], "rewind 0", "rewind 0", [8], [9]]


def test_what_the_decoder_thinks_is_written_where_it_is_scored_and_nowhere_else() -> None:
    inputs = inputs_of(([4, 5, 6, 7], 2), ([8, 9, 1], 1))
    decoder = TableDecoder(VOCABULARY, POSITIONS)
    outputs = run_traces(decoder, inputs)
    assert outputs[NEXT_TOKEN].shape == (2, POSITIONS, 1)
    assert outputs[LOG_PROBABILITIES].shape == (2, POSITIONS, 4)
    assert {a.dtype.name for a in outputs.values()} == {"float32"}
    for row, position in np.ndindex(2, POSITIONS):
        if not inputs[SCORED][row, position]:
            assert not outputs[NEXT_TOKEN][row, position].any()
            assert not outputs[LOG_PROBABILITIES][row, position].any()
            continue
        tokens, candidates = inputs[TOKENS][row], inputs[CANDIDATES][row, position]
        truth = log_softmax(decoder.scores_behind(tokens[: position + 1].tolist()))
        assert outputs[NEXT_TOKEN][row, position, 0] == pytest.approx(truth[tokens[position + 1]])
        np.testing.assert_allclose(outputs[LOG_PROBABILITIES][row, position, :-1], truth[candidates], rtol=1e-6)
        others = np.delete(truth, candidates)
        assert outputs[LOG_PROBABILITIES][row, position, -1] == pytest.approx(others.max())


def test_a_real_decoder_thinks_of_traces_what_the_whole_sequence_gives(decoder_file, expected) -> None:
    tokens = [int(t) for t in np.random.default_rng(2).integers(0, VOCABULARY, 12)]
    inputs = inputs_of((tokens, 5), (tokens[::-1][:9], 1), positions=12)
    with open_model(decoder_file) as session:
        outputs = run_traces(SharedCacheDecoder(session, context=12), inputs)
    for row, trace in enumerate(traces(inputs)):
        for position in np.flatnonzero(inputs[SCORED][row]):
            truth = log_softmax(expected(trace.tokens[: position + 1]))
            assert outputs[NEXT_TOKEN][row, position, 0] == pytest.approx(truth[trace.tokens[position + 1]], abs=0.02)


def test_a_trace_that_is_longer_than_the_context_is_refused(decoder_file) -> None:
    inputs = inputs_of(([1] * POSITIONS, 4))
    with (
        open_model(decoder_file) as session,
        pytest.raises(InputError, match="1 tokens behind 6 are more than the context of 6"),
    ):
        run_traces(SharedCacheDecoder(session, context=6), inputs)
