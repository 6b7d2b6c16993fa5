import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_runtime.errors import EnvironmentFailure, InputError, UsageError
from fastserve_runtime.generation.sampling import Sampler, Sampling, candidates

VOCABULARY = 5000


def logits_of(seed, size=VOCABULARY):
    return np.random.default_rng(seed).normal(scale=3, size=size).astype(np.float32)


def dense(logits, sampling, previous=()):
    found = candidates(logits, sampling, previous)
    probabilities = np.zeros(logits.size)
    probabilities[found.tokens] = found.probabilities
    return probabilities


def by_transformers(logits, sampling, previous):
    import torch
    from transformers import (
        LogitsProcessorList,
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    processors = LogitsProcessorList()
    if sampling.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(float(sampling.repetition_penalty)))
    processors.append(TemperatureLogitsWarper(float(sampling.temperature)))
    if sampling.top_k:
        processors.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        processors.append(TopPLogitsWarper(sampling.top_p))
    scores = processors(torch.tensor([list(previous)], dtype=torch.long), torch.from_numpy(logits)[None].clone())
    return scores.softmax(-1)[0].numpy()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1.0),
        Sampling(temperature=0.7, top_k=50),
        Sampling(temperature=1.3, top_p=0.9),
        Sampling(temperature=5.0, top_p=0.999),
        Sampling(temperature=0.2, top_k=1),
        Sampling(temperature=0.8, top_k=40, top_p=0.95, repetition_penalty=1.3),
        Sampling(temperature=1.0, top_p=0.01, repetition_penalty=0.5),
        Sampling(temperature=1.0, top_k=10 * VOCABULARY),
    ],
    ids=str,
)
def test_probabilities_are_those_of_transformers(seed, sampling):
    logits = logits_of(seed)
    # The best token is among those that occurred, and some occurred twice.
    previous = [int(logits.argmax()), 3, 3, *range(100, 200), int(logits.argmax())]
    expected = by_transformers(logits, sampling, previous)
    ours = dense(logits, sampling, previous)
    assert np.array_equal(ours > 1e-12, expected > 1e-12)
    np.testing.assert_allclose(ours, expected, rtol=2e-4, atol=1e-9)


def test_tokens_as_good_as_the_last_of_the_best_stay_too():
    logits = np.array([1, 3, 2, 2, 2, 0], np.float32)
    sampling = Sampling(temperature=1, top_k=2)
    assert candidates(logits, sampling).tokens.tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(dense(logits, sampling), by_transformers(logits, sampling, [0]), rtol=1e-6)


@given(
    st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=50),
    st.integers(0, 60),
    st.floats(0.01, 1),
    st.floats(0.05, 5),
)
def test_what_may_come_are_the_best_and_adds_up_to_one(values, top_k, top_p, temperature):
    logits = np.array(values, np.float32)
    found = candidates(logits, Sampling(temperature=temperature, top_k=top_k, top_p=top_p))
    assert found.probabilities.sum() == pytest.approx(1)
    assert (np.diff(found.tokens) > 0).all()
    assert logits.max() == logits[found.tokens].max()
    if top_k and np.unique(logits).size == logits.size:
        assert found.tokens.size <= top_k


def test_greedy_takes_the_first_of_the_best():
    sampler = Sampler(Sampling())
    assert sampler.next_token(np.array([0, 2, 2, 1], np.float32)) == 1
    assert sampler.next_token(np.array([0, np.inf, np.inf], np.float32)) == 1
    assert candidates(np.array([0, 2, 2], np.float32), Sampling()).tokens.tolist() == [1]


def test_greedy_counts_the_repetition_penalty():
    logits = np.array([1.0, 1.5, -1.0], np.float32)
    assert Sampler(Sampling(repetition_penalty=2.0)).next_token(logits, [1]) == 0
    assert logits.tolist() == [1.0, 1.5, -1.0]


def test_negative_logits_are_penalized_downwards_and_unknown_tokens_ignored():
    logits = np.array([-1.0, -1.5], np.float32)
    sampler = Sampler(Sampling(repetition_penalty=2.0))
    assert sampler.next_token(logits, np.array([0, 0, 7, 2])) == 1


@pytest.mark.parametrize("temperature", [1e-30, 1e-300])
def test_a_tiny_temperature_is_greedy(temperature):
    assert Sampler(Sampling(temperature=temperature, seed=1)).next_token(logits_of(4)) == logits_of(4).argmax()


SAME = """
import json, sys
import numpy as np
from fastserve_runtime.generation.sampling import Sampler, Sampling
logits = np.arange(300, dtype=np.float32) % 7
sampler = Sampler(Sampling(temperature=1.0, seed=int(sys.argv[1])))
print(json.dumps([sampler.next_token(logits) for _ in range(20)]))
"""


def tokens_of(seed, sampling=None):
    sampler = Sampler(sampling or Sampling(temperature=1.0, seed=seed))
    return [sampler.next_token(np.arange(300, dtype=np.float32) % 7) for _ in range(20)]


def test_the_same_seed_gives_the_same_tokens_in_another_process():
    done = subprocess.run([sys.executable, "-c", SAME, "11"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == tokens_of(11)
    assert tokens_of(12) != tokens_of(11)
    # A change of these breaks what users have recorded.
    assert tokens_of(11)[:5] == FIRST_OF_SEED_11


FIRST_OF_SEED_11 = [41, 152, 181, 12, 47]


def test_draws_follow_the_probabilities():
    logits = np.log(np.array([0.5, 0.3, 0.2], np.float32))
    sampler = Sampler(Sampling(temperature=1.0, seed=0))
    counts = np.bincount([sampler.next_token(logits) for _ in range(4000)], minlength=3) / 4000
    np.testing.assert_allclose(counts, [0.5, 0.3, 0.2], atol=0.03)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=1.0), Sampling(temperature=1.0, top_k=2)])
def test_a_logit_that_is_no_number_is_named(sampling):
    logits = np.array([1, 2, math.nan, 5, math.nan], np.float32)
    with pytest.raises(EnvironmentFailure, match="position 2 is not a number"):
        Sampler(sampling).next_token(logits)


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_nothing_can_be_drawn_from_infinite_logits(value):
    with pytest.raises(EnvironmentFailure, match=f"best logit is {value}"):
        Sampler(Sampling(temperature=1.0)).next_token(np.full(3, value, np.float32))


def test_impossible_tokens_are_never_drawn():
    logits = np.array([-math.inf, 0, -math.inf], np.float32)
    assert candidates(logits, Sampling(temperature=1.0)).tokens.tolist() == [1]


@pytest.mark.parametrize("maximum", [{"top_p": 0}, {"top_p": 0.0, "top_k": 3}, {"min_p": 1.0}])
def test_the_narrowest_choice_is_the_best_token(maximum):
    logits = logits_of(0)
    assert candidates(logits, Sampling(temperature=2.0, **maximum)).tokens.tolist() == [logits.argmax()]


@pytest.mark.parametrize("logits", [np.zeros((1, 3), np.float32), np.zeros(0, np.float32), np.zeros(3, np.int32)])
def test_other_than_a_vector_of_floats_is_refused(logits):
    with pytest.raises(InputError, match="shape \\[vocabulary\\]"):
        Sampler(Sampling()).next_token(logits)


def test_a_negative_token_is_refused():
    with pytest.raises(InputError, match="id -3"):
        Sampler(Sampling(repetition_penalty=2.0)).next_token(logits_of(0), [1, -3])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("temperature", v) for v in (-0.1, math.nan, math.inf, "1", True, None)),
        *(("top_k", v) for v in (-1, 1.5, True, None)),
        *(("top_p", v) for v in (1.01, -1, math.nan, "0.9")),
        *(("min_p", v) for v in (1.01, -0.1, math.nan, False)),
        *(("typical_p", v) for v in (0, 1.01, None)),
        *(("repetition_penalty", v) for v in (0, -1, math.inf, None)),
        *(("seed", v) for v in (-1, 0.5, "a", True)),
    ],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(UsageError, match=f"{name} cannot be") as caught:
        Sampling(**{name: value})
    assert caught.value.remedy.startswith("Give ")
