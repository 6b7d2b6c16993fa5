"""Sessions of a real decoder, saved and restored."""

from __future__ import annotations

import numpy as np
import pytest

import fastserve_runtime
from fastserve_runtime.errors import InputError, UsageError
from fastserve_runtime.loading import open_model
from fastserve_runtime.pipelines.text_generation import open_pipeline
from generation_bundles import ids, write_generation_bundle

MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def opened():
    pipelines = []

    def opened(bundle):
        pipelines.append(fastserve_runtime.load(bundle))
        return pipelines[-1]

    yield opened
    for pipeline in pipelines:
        pipeline.close()


@pytest.fixture
def bundle(generation_bundle):
    return generation_bundle()


def test_it_goes_on_as_if_it_had_never_ended(opened, bundle, tmp_path, greedy):
    first = opened(bundle)
    answer = first.generate("Once upon", max_new_tokens=10)
    first.save_session(tmp_path / "s", MESSAGES)
    computed = first._loop.cached()
    longer = "Once upon" + answer.text + " and"
    wanted = first.generate(longer, max_new_tokens=12)
    assert wanted.tokens == tuple(greedy(ids(longer), 12))
    second = opened(bundle)
    assert second.restore_session(tmp_path / "s") == MESSAGES
    for name, value in second._loop.cached().items():
        np.testing.assert_array_equal(value, computed[name])
        assert value.any()
    assert second.generate(longer, max_new_tokens=12).tokens == wanted.tokens
    assert second.reused_tokens == len("Once upon") + 9


def test_an_engine_that_keeps_its_cache_is_fed_again(opened, bundle, tmp_path, monkeypatch):
    first, second = opened(bundle), opened(bundle)
    monkeypatch.setattr(first._loop.decoder, "cached", dict)
    wanted = first.generate("Once upon", max_new_tokens=10)
    first.save_session(tmp_path / "s")
    second.restore_session(tmp_path / "s")
    assert second._loop.decoder.position == 18
    assert second.generate("Once upon", max_new_tokens=10).tokens == wanted.tokens
    assert second.reused_tokens == 8


def test_a_session_that_was_never_used_can_be_saved(opened, bundle, tmp_path):
    opened(bundle).save_session(tmp_path / "s")
    pipeline = opened(bundle)
    pipeline.generate("Once", max_new_tokens=3)
    assert pipeline.restore_session(tmp_path / "s") == []
    assert pipeline._loop.held == []


def test_another_model_or_context_is_refused_and_what_is_held_stays(
    opened, bundle, generation_bundle, decoder_file, tmp_path
):
    pipeline = opened(bundle)
    pipeline.generate("Once upon", max_new_tokens=5)
    pipeline.save_session(tmp_path / "s")
    other = opened(write_generation_bundle(tmp_path / "b.fsb", decoder_file, decoder_file.read_bytes() + b"\x7a\x00"))
    held = other.generate("Another", max_new_tokens=3)
    with pytest.raises(InputError, match="of the model"):
        other.restore_session(tmp_path / "s")
    with pytest.raises(InputError, match="context of 64 tokens; this model has 32"):
        opened(generation_bundle("c.fsb", context=32)).restore_session(tmp_path / "s")
    other.generate("Another", max_new_tokens=3)
    assert other.reused_tokens == len("Another") - 1
    assert held.tokens


def test_a_session_moves_with_the_files_from_bundle_to_bundle(opened, bundle, generation_bundle, tmp_path):
    first = opened(bundle)
    first.generate("Once upon", max_new_tokens=5)
    first.save_session(tmp_path / "s")
    opened(generation_bundle("advising.fsb", sampling={"temperature": 0.5})).restore_session(tmp_path / "s")


def test_a_bare_model_has_no_sessions(opened, bundle, decoder_file, tmp_path):
    pipeline = opened(bundle)
    bare = open_pipeline(open_model(decoder_file), pipeline.tokenizer, {})
    with bare, pytest.raises(UsageError, match="without its bundle"):
        bare.save_session(tmp_path / "s")
