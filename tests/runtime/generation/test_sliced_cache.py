"""A decoder that writes the new tokens' keys and values into the engine's buffers gives the whole sequence's scores."""

from __future__ import annotations

import numpy as np
import pytest

from fastserve_runtime.bundle.manifest import Graph
from fastserve_runtime.engines import litert
from fastserve_runtime.errors import BundleError, EnvironmentFailure, InputError, UsageError
from fastserve_runtime.generation import sliced_cache
from fastserve_runtime.generation.sampling import Sampler, Sampling
from fastserve_runtime.generation.sliced_cache import CACHED_POSITIONS, SlicedCacheDecoder, has_sliced_cache
from fastserve_runtime.generation.token_loop import TokenLoop
from fastserve_runtime.loading import open_model
from fastserve_runtime.pipelines.text_generation.pipeline import open_decoder

CONTEXT = 64
TOKENS = [int(t) for t in np.random.default_rng(0).integers(0, 256, CONTEXT)]


@pytest.fixture(scope="module")
def file(decoder_form, tmp_path_factory):
    from fastserve_converters.formats.tflite.decoder_graph import decoder_model

    path = tmp_path_factory.mktemp("decoder") / "model.tflite"
    decoder_model(decoder_form).write(path)
    return path


@pytest.fixture
def session(file):
    with open_model(file) as session:
        yield session


@pytest.fixture
def decoder(session, monkeypatch):
    """A decoder whose cache grows soon and whose chunks are short."""
    monkeypatch.setattr(sliced_cache, "_SLOTS", 8)
    monkeypatch.setattr(sliced_cache, "_CHUNK", 10)
    return SlicedCacheDecoder(session, context=CONTEXT)


def assert_scores(scores, expected) -> None:
    np.testing.assert_allclose(scores, expected, atol=1e-5 * np.abs(expected).max())


def test_prompts_and_single_tokens_give_the_scores_of_the_whole(decoder, expected) -> None:
    assert_scores(decoder.feed(TOKENS[:20]), expected(TOKENS[:20]))
    for end in range(21, 35):
        assert_scores(decoder.feed(TOKENS[end - 1 : end]), expected(TOKENS[:end]))
    assert_scores(decoder.feed(TOKENS[34:]), expected(TOKENS))
    assert decoder.position == decoder.context == CONTEXT


def test_token_by_token_gives_what_the_prompt_gives(decoder, expected) -> None:
    for count, token in enumerate(TOKENS, 1):
        scores = decoder.feed([token])
        if count % 9 == 0 or count == CONTEXT:
            assert_scores(scores, expected(TOKENS[:count]))


def test_the_cache_is_as_long_as_the_text_needs(decoder) -> None:
    lengths = []
    for start in (0, 5, 17, 18, 50):
        decoder.feed(TOKENS[decoder.position : start + 1])
        lengths.append(len(decoder._binding.inputs[CACHED_POSITIONS]))
    assert lengths == [8, 8, 8, 24, 48]


def test_new_rows_are_written_where_the_engine_reads_them(decoder) -> None:
    decoder.feed(TOKENS[:9])
    decoder.feed(TOKENS[9:10])
    before = {name: value.ctypes.data for name, value in decoder._binding.inputs.items()}
    for token in TOKENS[10:14]:
        decoder.feed([token])
    assert {name: value.ctypes.data for name, value in decoder._binding.inputs.items()} == before
    keys = decoder._binding.inputs[sliced_cache.past_name(3, "key")]
    assert keys[:, :14].all()
    assert not keys[:, 14:].any()


@pytest.mark.parametrize("kept", [0, 3, 17, 20, 24])
def test_tokens_are_forgotten_from_a_position_on(decoder, expected, kept) -> None:
    decoder.feed(TOKENS[:20])
    for token in TOKENS[20:25]:
        decoder.feed([token])
    decoder.rewind(kept)
    other = TOKENS[:kept] + TOKENS[40:42]
    assert_scores(decoder.feed(TOKENS[40:41]), expected(other[:-1]))
    assert_scores(decoder.feed(TOKENS[41:42]), expected(other))
    with pytest.raises(UsageError, match=f"holds {kept + 2} tokens and cannot go back to {kept + 3}"):
        decoder.rewind(kept + 3)


@pytest.mark.parametrize("kept", [4, 11, 19])
def test_tokens_of_a_prompt_are_forgotten_before_they_reach_the_engine(decoder, expected, kept) -> None:
    decoder.feed(TOKENS[:20])
    decoder.rewind(kept)
    assert {rows.shape[1] for rows in decoder.cached().values()} == {kept}
    assert_scores(decoder.feed(TOKENS[50:60]), expected(TOKENS[:kept] + TOKENS[50:60]))


@pytest.mark.parametrize("count", [0, 1, 12, 30])
def test_a_cache_is_saved_and_restored(decoder, session, expected, count) -> None:
    if count:
        decoder.feed(TOKENS[:count])
    saved = decoder.cached()
    assert {v.shape[1] for v in saved.values()} == {count}
    decoder.feed(TOKENS[40:50])  # the copies do not see this
    other = SlicedCacheDecoder(session, context=CONTEXT)
    other.restore(saved, count)
    for end in (count + 1, count + 2):
        assert_scores(other.feed(TOKENS[end - 1 : end]), expected(TOKENS[:end]))
    other.restore(saved, count)
    assert_scores(other.feed(TOKENS[50:51]), expected([*TOKENS[:count], TOKENS[50]]))


@pytest.mark.parametrize("change", ["shape", "dtype", "missing"])
def test_a_cache_of_another_model_is_refused_whole(decoder, expected, change) -> None:
    decoder.feed(TOKENS[:12])
    saved = decoder.cached()
    last = list(saved)[-1]
    if change == "missing":
        del saved[last]
    else:
        saved[last] = saved[last][:, :-1] if change == "shape" else saved[last].astype(np.float64)
    decoder.rewind(0)
    decoder.feed(TOKENS[20:24])
    with pytest.raises(InputError, match=last):
        decoder.restore(saved, 12)
    assert_scores(decoder.feed(TOKENS[24:25]), expected(TOKENS[20:25]))
    with pytest.raises(InputError, match="65 tokens does not fit"):
        decoder.restore(saved, 65)


def test_too_many_tokens_and_none_are_refused_and_spoil_nothing(decoder, expected) -> None:
    decoder.feed(TOKENS[:60])
    with pytest.raises(InputError, match="5 tokens behind 60 are more than the context of 64"):
        decoder.feed(TOKENS[:5])
    with pytest.raises(InputError, match="no tokens"):
        decoder.feed([])
    assert_scores(decoder.feed(TOKENS[60:]), expected(TOKENS))


def test_a_failure_of_the_engine_spoils_nothing(decoder, session, expected) -> None:
    decoder.feed(TOKENS[:10])
    session.id_rows, decoder.vocabulary = {}, 999  # else the token does not get as far as the engine
    with pytest.raises(EnvironmentFailure, match="litert failed while running"):
        decoder.feed([256])
    assert_scores(decoder.feed(TOKENS[10:11]), expected(TOKENS[:11]))


def test_two_decoders_of_one_session_do_not_mix(session, expected) -> None:
    first, second = (SlicedCacheDecoder(session, context=CONTEXT) for _ in range(2))
    for end in (9, 10, 11):
        first.feed(TOKENS[first.position : end])
        second.feed(TOKENS[30 + second.position : 30 + end])
    assert_scores(first.feed(TOKENS[11:12]), expected(TOKENS[:12]))
    assert_scores(second.feed(TOKENS[41:42]), expected(TOKENS[30:42]))


def test_a_run_of_the_graph_in_between_takes_nothing_away(decoder, session, expected) -> None:
    decoder.feed(TOKENS[:9])
    decoder.feed(TOKENS[9:10])
    session.warm_up()
    assert_scores(decoder.feed(TOKENS[10:11]), expected(TOKENS[:11]))


def test_a_closed_session_feeds_no_more(decoder, session) -> None:
    decoder.feed(TOKENS[:2])
    decoder.feed(TOKENS[2:3])
    session.close()
    for tokens in (TOKENS[3:4], TOKENS[3:6]):
        with pytest.raises(UsageError, match="session is closed"):
            decoder.feed(tokens)


def test_engines_without_buffers_of_their_own_do_too(decoder_form, file, expected, monkeypatch) -> None:
    from fastserve_converters.formats.tflite.decoder_graph import GRAPH, signature
    from fastserve_runtime.sessions.named_session import NamedSession

    graphs = {GRAPH: Graph(file.name, GRAPH, signature(decoder_form))}
    with litert.open_session(file, graphs, threads=1) as session:
        monkeypatch.setattr(type(session), "borrow", NamedSession.borrow)
        decoder = open_decoder(session)
        assert isinstance(decoder, SlicedCacheDecoder)
        decoder.feed(TOKENS[:20])
        for end in (21, 22):
            assert_scores(decoder.feed(TOKENS[end - 1 : end]), expected(TOKENS[:end]))


def test_a_generated_text_is_the_likeliest_one(decoder, greedy) -> None:
    loop = TokenLoop(decoder)
    for prompt in (TOKENS[:12], TOKENS[:5], TOKENS[:30]):
        generated = list(loop.run(prompt, Sampler(Sampling(temperature=0.0)), maximum=20))
        assert generated == greedy(prompt, 20)


def test_other_graphs_are_refused(decoder_file, session) -> None:
    with open_model(decoder_file) as other:
        assert not has_sliced_cache(next(iter(other.graphs.values())))
        with pytest.raises(BundleError, match="does not give the keys and values"):
            SlicedCacheDecoder(other, context=CONTEXT)
    assert has_sliced_cache(next(iter(session.graphs.values())))
    with pytest.raises(UsageError, match="leaves open how many tokens"):
        SlicedCacheDecoder(session)
    with pytest.raises(UsageError, match="context of 1 tokens"):
        SlicedCacheDecoder(session, context=1)
