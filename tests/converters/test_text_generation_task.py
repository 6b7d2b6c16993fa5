"""Quality of generators: perplexity beside the reference's, and how far distributions of the next token lie apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from decoder_checkpoints import save_decoder_checkpoint
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.tasks import text_generation
from fastserve_runtime.conformance.comparison import Comparison
from fastserve_runtime.errors import UsageError
from fastserve_runtime.generation.traces import log_softmax
from fastserve_runtime.pipelines.text_generation._quality import PERPLEXITY_RATIO, divergence, quality

VOCABULARY = 9
RANDOM = np.random.default_rng(3)
SCORES = arrays.arrays(np.float64, (2, VOCABULARY), elements=st.floats(-8, 8))


def true_divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return (np.exp(p) * (p - q)).sum(-1)


def of_candidates(likelihoods: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """What a trace keeps: the candidates, and the likeliest of the others."""
    others = np.delete(likelihoods, candidates, axis=-1)
    rest = others.max(-1, keepdims=True) if others.size else np.full((len(likelihoods), 1), -5.0)
    return np.concatenate([likelihoods[:, candidates], rest], -1)


@given(SCORES)
def test_with_all_tokens_as_candidates_it_is_the_divergence(scores: np.ndarray) -> None:
    p, q = (log_softmax(s)[None] for s in scores)
    everything = np.arange(VOCABULARY)
    found = divergence(of_candidates(p, everything), of_candidates(q, everything))
    np.testing.assert_allclose(found, true_divergence(p, q), atol=1e-7)


@given(SCORES, st.integers(1, VOCABULARY - 1))
def test_with_some_candidates_it_is_never_above_the_divergence_nor_below_nothing(scores, count: int) -> None:
    p, q = (log_softmax(s)[None] for s in scores)
    candidates = np.argsort(-p[0])[:count]
    found = divergence(of_candidates(p, candidates), of_candidates(q, candidates))[0]
    assert -1e-9 <= found <= true_divergence(p, q)[0] + 1e-9


@given(SCORES)
def test_a_distribution_does_not_diverge_from_itself(scores: np.ndarray) -> None:
    p = of_candidates(log_softmax(scores), np.arange(3))
    np.testing.assert_array_equal(divergence(p, p), 0)


def outputs_of(scores: np.ndarray, following: np.ndarray) -> dict[str, np.ndarray]:
    """What a model gives on traces, shape [traces, positions, vocabulary], with the first three as candidates."""
    likelihoods = log_softmax(scores)
    kept = np.concatenate([likelihoods[..., :3], likelihoods[..., 3:].max(-1, keepdims=True)], -1)
    following_ones = np.take_along_axis(likelihoods, following[..., None], -1)
    return {"log_probabilities": kept.astype(np.float32), "next_token": following_ones.astype(np.float32)}


SHAPE = (5, 64)
REFERENCE = RANDOM.normal(size=(*SHAPE, VOCABULARY)) + np.array([3.0, 2, 1] + [0] * 6)
FOLLOWING = RANDOM.integers(0, VOCABULARY, SHAPE)
INPUTS = {"scored": np.arange(64)[None] >= RANDOM.integers(2, 20, 5)[:, None]}


def judged(scores: np.ndarray, *, inputs=INPUTS, seed: int = 0):
    expected, actual = outputs_of(REFERENCE, FOLLOWING), outputs_of(scores, FOLLOWING)
    return quality(Comparison(expected, actual, inputs, seed=seed))


def test_the_reference_itself_is_as_good_as_the_reference() -> None:
    found = judged(REFERENCE)
    assert found.name == PERPLEXITY_RATIO
    assert found.value == found.low == found.high == 1
    assert found.samples == INPUTS["scored"].sum()
    assert found.beside["perplexity"] == found.beside["reference's perplexity"]
    assert found.beside["KL divergence (nats)"] == 0
    assert found.beside["top-1 agreement"] == 1


def test_the_figures_are_what_they_are_called() -> None:
    noisy = REFERENCE + RANDOM.normal(size=REFERENCE.shape)
    found = judged(noisy)
    scored = INPUTS["scored"]
    perplexities = [
        np.exp(-np.take_along_axis(log_softmax(s), FOLLOWING[..., None], -1)[..., 0][scored].mean())
        for s in (REFERENCE, noisy)
    ]
    assert found.beside["reference's perplexity"] == pytest.approx(perplexities[0], rel=1e-5)
    assert found.beside["perplexity"] == pytest.approx(perplexities[1], rel=1e-5)
    assert found.value == pytest.approx(perplexities[0] / perplexities[1], rel=1e-5)
    assert found.low < found.value < found.high
    assert 0 < found.beside["KL divergence (nats)"] < true_divergence(log_softmax(REFERENCE), log_softmax(noisy)).mean()
    same = (REFERENCE.argmax(-1) == noisy.argmax(-1))[scored].mean()
    assert found.beside["top-1 agreement"] == pytest.approx(same, abs=0.1)  # the rest counts as one token
    json.dumps(found.beside)


def test_the_more_noise_the_worse_and_what_is_not_scored_does_not_count() -> None:
    noise = RANDOM.normal(size=REFERENCE.shape)
    values = [judged(REFERENCE + scale * noise) for scale in (0, 0.5, 1, 2)]
    assert [q.value for q in values] == sorted((q.value for q in values), reverse=True)
    divergences = [q.beside["KL divergence (nats)"] for q in values]
    assert divergences == sorted(divergences)
    elsewhere = REFERENCE + 5 * noise * ~INPUTS["scored"][..., None]
    assert judged(elsewhere).value == 1


def test_the_interval_is_repeatable_and_one_token_is_enough() -> None:
    noisy = REFERENCE + RANDOM.normal(size=REFERENCE.shape)
    assert judged(noisy, seed=5) == judged(noisy, seed=5)
    one = {"scored": np.zeros(SHAPE, bool)}
    one["scored"][0, 3] = True
    found = judged(noisy, inputs=one)
    assert found.low == pytest.approx(found.value) == pytest.approx(found.high)
    assert found.samples == 1


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return {kind: save_decoder_checkpoint(folder / kind, kind, layers=1) for kind in ("llama", "gpt2")}


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_decoders_are_taken_for_generation_and_nothing_else(checkpoints, kind: str) -> None:
    checkpoint = read_checkpoint(checkpoints[kind])
    assert checkpoint.task == "text-generation"
    assert checkpoint.family.generates
    assert [output.name for output in text_generation.outputs(checkpoint)] == ["logits"]
    assert text_generation.settings(checkpoint) == {}
    with pytest.raises(UsageError, match="they are not exported for feature-extraction") as failure:
        read_checkpoint(checkpoints[kind], task="feature-extraction")
    assert "--task" in failure.value.remedy


@pytest.mark.parametrize(
    ("architecture", "problem"),
    [
        ("BertModel", "a BertModel, which has no head for text-generation"),
        ("BertLMHeadModel", "BERT family encode texts; they are not exported for text-generation"),
    ],
)
def test_an_encoder_is_not_taken_for_a_generator(folder, architecture: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        read_checkpoint(folder(architectures=[architecture]), task="text-generation")


def test_contexts_are_bounded_by_the_models_positions(checkpoints) -> None:
    for kind in ("llama", "gpt2"):
        checkpoint = read_checkpoint(checkpoints[kind])
        checkpoint.check_length(128)
        with pytest.raises(UsageError, match="model has positions for 128") as failure:
            checkpoint.check_length(129)
        assert "--context 128 or less" in failure.value.remedy


def test_how_to_generate_is_in_a_file_of_its_own_or_in_the_config(checkpoints, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(checkpoints["llama"])
    stored = json.loads((checkpoint.path / "generation_config.json").read_text())
    assert checkpoint.generation() == stored
    assert stored["eos_token_id"] == 2
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in checkpoint.path.iterdir():
        if file.name != "generation_config.json":
            (bare / file.name).write_bytes(file.read_bytes())
    assert read_checkpoint(bare).generation() == {"eos_token_id": 2}
    (bare / "generation_config.json").write_text("[]")
    with pytest.raises(UsageError, match="not a JSON object"):
        read_checkpoint(bare).generation()
