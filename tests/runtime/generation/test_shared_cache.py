"""A decoder whose cache is written in place gives the scores of the whole sequence."""

from __future__ import annotations

import numpy as np
import pytest

from fastserve_runtime.bundle.manifest import Graph
from fastserve_runtime.bundle.tensor_specs import Dim, Signature, SymbolicDim, TensorSpec
from fastserve_runtime.engines import installed_engine
from fastserve_runtime.errors import BundleError, InputError, UsageError
from fastserve_runtime.generation import shared_cache
from fastserve_runtime.generation.shared_cache import SharedCacheDecoder, has_shared_cache
from fastserve_runtime.loading import open_model

CONTEXT = 64
TOKENS = [int(t) for t in np.random.default_rng(0).integers(0, 256, CONTEXT)]


@pytest.fixture
def session(decoder_file):
    with open_model(decoder_file) as session:
        yield session


@pytest.fixture
def decoder(session):
    return SharedCacheDecoder(session, context=CONTEXT)


def assert_scores(scores, expected) -> None:
    np.testing.assert_allclose(scores, expected, atol=1e-3 * np.abs(expected).max())


def test_prompts_and_single_tokens_give_the_scores_of_the_whole(decoder, expected) -> None:
    assert_scores(decoder.feed(TOKENS[:20]), expected(TOKENS[:20]))
    for end in (21, 22):
        assert_scores(decoder.feed(TOKENS[end - 1 : end]), expected(TOKENS[:end]))
    assert_scores(decoder.feed(TOKENS[22:]), expected(TOKENS))
    assert decoder.position == decoder.context == CONTEXT


def test_long_prompts_are_fed_in_chunks(decoder, expected, monkeypatch) -> None:
    monkeypatch.setattr(shared_cache, "_CHUNK", 7)
    assert_scores(decoder.feed(TOKENS[:40]), expected(TOKENS[:40]))


def test_tokens_are_forgotten_from_a_position_on(decoder, expected) -> None:
    decoder.feed(TOKENS[:30])
    decoder.rewind(10)
    other = TOKENS[:10] + TOKENS[40:50]
    assert_scores(decoder.feed(TOKENS[40:50]), expected(other))
    with pytest.raises(UsageError, match="holds 20 tokens and cannot go back to 21"):
        decoder.rewind(21)


def test_a_cache_is_saved_and_restored(decoder, session, expected) -> None:
    decoder.feed(TOKENS[:12])
    saved = decoder.cached()
    assert {v.shape[2] for v in saved.values()} == {12}
    decoder.feed(TOKENS[30:40])  # the copies do not see this
    other = SharedCacheDecoder(session, context=CONTEXT)
    other.restore(saved, 12)
    assert_scores(other.feed(TOKENS[12:13]), expected(TOKENS[:13]))


@pytest.mark.parametrize("change", ["shape", "dtype", "missing"])
def test_a_cache_of_another_model_is_refused_whole(decoder, expected, change) -> None:
    decoder.feed(TOKENS[:12])
    saved = decoder.cached()
    last = list(saved)[-1]
    if change == "missing":
        del saved[last]
    else:
        saved[last] = saved[last][:, :, :-1] if change == "shape" else saved[last].astype(np.float64)
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


def test_the_cache_is_written_in_place(decoder) -> None:
    before = {name: id(value) for name, value in decoder._cache.items()}
    decoder.feed(TOKENS[:3])
    assert {name: id(value) for name, value in decoder._cache.items()} == before
    assert all(value[:, :, :3].any() and not value[:, :, 3:].any() for value in decoder._cache.values())


def test_two_decoders_of_one_session_do_not_mix(session, expected) -> None:
    first, second = (SharedCacheDecoder(session, context=CONTEXT) for _ in range(2))
    first.feed(TOKENS[:9])
    second.feed(TOKENS[30:35])
    assert_scores(first.feed(TOKENS[9:10]), expected(TOKENS[:10]))


def test_other_graphs_are_refused(score_models, session) -> None:
    with open_model(score_models / "model.onnx") as other:
        assert not has_shared_cache(other.graphs["main"])
        with pytest.raises(BundleError, match="no inputs and outputs for a cache"):
            SharedCacheDecoder(other, context=CONTEXT)
    assert has_shared_cache(session.graphs["main"])
    with pytest.raises(UsageError, match="leaves open how many tokens"):
        SharedCacheDecoder(session)
    with pytest.raises(UsageError, match="context of 1 tokens"):
        SharedCacheDecoder(session, context=1)


def with_contexts(graph: Signature, *contexts: Dim) -> Signature:
    """The graph with caches of these sizes, in turn."""
    caches = [t for t in graph.inputs if t.name.startswith("past_key_values")]
    sized = {
        t.name: TensorSpec(t.name, t.dtype, (*t.dims[:2], contexts[i % len(contexts)], t.dims[3]))
        for i, t in enumerate(caches)
    }
    return Signature(tuple(sized.get(t.name, t) for t in graph.inputs), graph.outputs)


@pytest.mark.parametrize("size", [SymbolicDim("past", 1, 40), 40])
def test_the_context_is_what_the_manifest_says_unless_less_is_wanted(decoder_file, session, expected, size) -> None:
    graphs = {"main": Graph(decoder_file.name, "main", with_contexts(session.graphs["main"], size))}
    with installed_engine("onnx").open_session(decoder_file, graphs, threads=1) as bounded:
        decoder = SharedCacheDecoder(bounded)
        assert decoder.context == 40
        assert_scores(decoder.feed(TOKENS[:40]), expected(TOKENS[:40]))
        if not isinstance(size, int):
            assert SharedCacheDecoder(bounded, context=20).context == 20


def test_caches_of_several_sizes_leave_the_context_open(decoder_file, session) -> None:
    graphs = {"main": Graph(decoder_file.name, "main", with_contexts(session.graphs["main"], 40, 41))}
    with (
        installed_engine("onnx").open_session(decoder_file, graphs, threads=1) as bounded,
        pytest.raises(UsageError, match="leaves open how many tokens"),
    ):
        SharedCacheDecoder(bounded)
