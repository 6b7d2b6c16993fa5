"""Ids that are not in a model's table never reach an engine, by whichever door they come."""

from __future__ import annotations

import numpy as np
import pytest

import fastserve_runtime
from fastserve_runtime.bundle.tensor_specs import Signature, TensorSpec
from fastserve_runtime.errors import BundleError, InputError
from fastserve_runtime.generation.shared_cache import SharedCacheDecoder
from fastserve_runtime.loading import open_model
from fastserve_runtime.processes.isolation import open_isolated
from fastserve_runtime.sessions.token_ids import check_ids, id_rows, vocabulary_size
from generation_bundles import LETTERS

VOCABULARY = 256
BEYOND = [-1, VOCABULARY, 3_000_000, -(2**40)]


def inputs_of(session, token: int) -> dict[str, np.ndarray]:
    (signature,) = session.graphs.values()
    caches = {t.name: np.zeros([d if isinstance(d, int) else 8 for d in t.dims], t.dtype) for t in signature.inputs[2:]}
    return {"input_ids": np.array([[token]]), "attention_mask": np.ones((1, 1), np.int64), **caches}


@pytest.mark.parametrize("token", BEYOND)
def test_a_bare_decoder_knows_as_many_ids_as_it_scores(decoder_file, token) -> None:
    with open_model(decoder_file) as session:
        assert session.id_rows == {"main": VOCABULARY}
        session.run(inputs_of(session, VOCABULARY - 1))
        with pytest.raises(InputError, match=rf"'input_ids' holds the id {token}; the model has the ids 0 to 255"):
            session.run(inputs_of(session, token))
        logits = np.zeros((1, 1, VOCABULARY), np.float32)
        binding = session.bind(inputs_of(session, 7), {"logits": logits, **presents(session)})
        binding.run()
        binding.inputs["input_ids"][0, 0] = token
        with pytest.raises(InputError, match=str(token)):
            binding.run()
        decoder = SharedCacheDecoder(session, context=16)
        for tokens in ([token], [3, 4, token]):
            with pytest.raises(InputError, match=rf"The token {token} is none of the model's, which are 0 to 255\."):
                decoder.feed(tokens)
        assert decoder.position == 0


def presents(session) -> dict[str, np.ndarray]:
    (signature,) = session.graphs.values()
    shapes = {t.name: [d if isinstance(d, int) else 8 for d in t.dims] for t in signature.outputs[1:]}
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


def test_a_model_in_a_process_of_its_own_is_no_way_around(decoder_file) -> None:
    with open_isolated(decoder_file, "onnxruntime", threads=1) as session, pytest.raises(InputError, match="256"):
        session.run(inputs_of(session, VOCABULARY))


def test_a_manifest_may_know_fewer_ids_than_the_decoder_scores(generation_bundle) -> None:
    last = LETTERS[200]
    with fastserve_runtime.load(generation_bundle()) as model:
        assert len(model.generate(last, max_new_tokens=2).tokens) == 2
    with fastserve_runtime.load(generation_bundle("fewer.fsb", vocabulary_size=200)) as model:
        assert set(model.session.id_rows.values()) == {200}
        with pytest.raises(InputError, match=f"The prompt has the token '{last}' with the id 200; .* ids 0 to 199"):
            model.generate("ab" + last)
        with pytest.raises(InputError, match="the ids 0 to 199"):
            model.session.run(inputs_of(model.session, 200))


@pytest.mark.parametrize("size", [0, -1, True, 1.5, "9", 2**31])
def test_a_manifest_whose_vocabulary_is_no_count_is_damaged(generation_bundle, size) -> None:
    with pytest.raises(BundleError, match="vocabulary_size"):
        fastserve_runtime.load(generation_bundle(vocabulary_size=size))


def test_a_session_of_a_longer_vocabulary_is_refused(generation_bundle, tmp_path) -> None:
    with fastserve_runtime.load(generation_bundle()) as model:
        model.generate(LETTERS[200], max_new_tokens=1)
        model.save_session(tmp_path / "a.session")
        model._loop.decoder.vocabulary = 200  # as one with a shorter table has it
        with pytest.raises(InputError, match="The session holds the token 200; the model has the tokens 0 to 199"):
            model.restore_session(tmp_path / "a.session")


def test_encoders_are_bound_by_their_manifest_alone() -> None:
    ids, mask = (TensorSpec(n, "int32", (1, 4)) for n in ("input_ids", "attention_mask"))
    places = TensorSpec("position_ids", "int32", (1, 4))
    scores = TensorSpec("logits", "float32", (1, 2))
    graphs = {"main": Signature((ids, mask, places), (scores,)), "other": Signature((mask,), (scores,))}
    assert id_rows(graphs) == {}
    assert id_rows(graphs, 30522) == {"main": 30522}


def test_only_integers_are_ids() -> None:
    check_ids(np.array([[0.5, 9e9]]), 4, "It")
    check_ids(np.zeros((1, 0), np.int32), 4, "It")
    with pytest.raises(InputError, match="It holds the id 255"):
        check_ids(np.array([3, 255], np.uint8), 4, "It")
    assert vocabulary_size({}) is None
