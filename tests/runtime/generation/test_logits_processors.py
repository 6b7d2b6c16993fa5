"""Texts are those of Transformers' `generate`, token for token, with each logits processor that it has for decoders."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

import fastserve_runtime
from fastserve_runtime.errors import BundleError
from fastserve_runtime.generation.processor_settings import ProcessorSettings
from fastserve_runtime.generation.sampling import Sampler, Sampling, candidates
from random_decoders import CONFIGS, random_decoder

PROMPTS = [[1], [5], [9, 8, 7, 9, 8], list(range(40, 60)), [3, 3, 3, 3]]
NEW = 12
SETTINGS = {
    "bias": {"sequence_bias": [[[17], 40.0], [[9, 8], -30.0], [[8, 30], 90.0]]},
    "biased by infinity": {"sequence_bias": [[[200], float("-inf")], [[3, 3, 4], 50.0]]},
    "prompt's own": {"encoder_repetition_penalty": 1.7},
    "prompt's own less": {"encoder_repetition_penalty": 0.5, "suppress_tokens": list(range(10, 256))},
    "repetition": {"repetition_penalty": 1.4},
    "ngram 1": {"no_repeat_ngram_size": 1},
    "ngram 2": {"no_repeat_ngram_size": 2},
    "ngram 3": {"no_repeat_ngram_size": 3, "suppress_tokens": list(range(5, 256))},
    "prompt's ngram 1": {"encoder_no_repeat_ngram_size": 1, "suppress_tokens": list(range(10, 256))},
    "prompt's ngram 2": {"encoder_no_repeat_ngram_size": 2, "suppress_tokens": list(range(10, 256))},
    "bad words": {"bad_words_ids": [[9], [8, 7], [3, 3], [10, 11, 12], [2], *([i] for i in range(20, 256, 2))]},
    "min length": {"min_length": 9},
    "min new": {"min_new_tokens": 6},
    "both": {"min_length": 20, "min_new_tokens": 3},
    "forced first": {"forced_bos_token_id": 33},
    "forced first, not at the beginning": {"forced_bos_token_id": 33, "begin_suppress_tokens": [33, 12]},
    "forced last": {"forced_eos_token_id": 2},
    "forced last of several": {"forced_eos_token_id": [77, 2]},
    "decay": {"exponential_decay_length_penalty": (3, 1.5)},
    "no invalid values": {"remove_invalid_values": True, "no_repeat_ngram_size": 2},
    "suppressed": {"suppress_tokens": list(range(0, 256, 3))},
    "suppressed first": {"begin_suppress_tokens": list(range(1, 256, 2))},
    "all": {
        "sequence_bias": [[[17], 4.0], [[8, 30], 9.0]],
        "encoder_repetition_penalty": 1.2,
        "repetition_penalty": 1.3,
        "no_repeat_ngram_size": 3,
        "encoder_no_repeat_ngram_size": 3,
        "bad_words_ids": [[9], [8, 7]],
        "min_new_tokens": 4,
        "forced_eos_token_id": 2,
        "remove_invalid_values": True,
        "exponential_decay_length_penalty": (5, 1.1),
        "suppress_tokens": [4, 6, 8],
        "begin_suppress_tokens": list(range(100, 160)),
    },
}


@pytest.fixture(scope="module")
def model():
    """A decoder that repeats itself, and ends often."""
    config = CONFIGS["llama"]()
    config.num_hidden_layers = 2
    made = random_decoder(config)
    with torch.no_grad():
        made.lm_head.weight *= 20
        made.lm_head.weight[2] *= 1.5
    return made


def theirs(model, prompt, ends, **settings):
    config = transformers.GenerationConfig(
        do_sample=False, max_new_tokens=NEW, eos_token_id=ends, pad_token_id=0, **settings
    )
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        whole = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    return whole[0, len(prompt) :].tolist()


def ours(model, prompt, ends, *, repetition_penalty=1.0, **settings):
    made = ProcessorSettings.from_document(ProcessorSettings.of(settings).document())
    chain = made.processors(prompt, ends, len(prompt) + NEW, repetition_penalty=repetition_penalty)
    sampler, tokens = Sampler(Sampling(), processors=chain), list(prompt)
    while len(tokens) < len(prompt) + NEW and (len(tokens) == len(prompt) or tokens[-1] not in ends):
        with torch.inference_mode():
            logits = model(torch.tensor([tokens])).logits[0, -1].numpy()
        before = logits.copy()
        tokens.append(sampler.next_token(logits, tokens))
        np.testing.assert_array_equal(logits, before)
    return tokens[len(prompt) :]


@pytest.mark.parametrize("name", SETTINGS)
def test_texts_are_those_of_transformers(model, name) -> None:
    changed = False
    for prompt in PROMPTS:
        free = theirs(model, prompt, [2])
        for ends in ([2], [free[1]], [2, *free[3:5]]):
            expected = theirs(model, prompt, ends, **SETTINGS[name])
            assert ours(model, prompt, ends, **SETTINGS[name]) == expected
            changed |= expected != theirs(model, prompt, ends)
    assert changed, "the settings change nothing, so that nothing is tested"


@pytest.mark.parametrize(
    ("settings", "warper"),
    [
        ({"min_p": 0.2}, transformers.MinPLogitsWarper(0.2)),
        ({"typical_p": 0.6}, transformers.TypicalLogitsWarper(0.6)),
        ({"typical_p": 0.05}, transformers.TypicalLogitsWarper(0.05)),
        ({"epsilon_cutoff": 0.01}, transformers.EpsilonLogitsWarper(0.01)),
        ({"epsilon_cutoff": 0.9}, transformers.EpsilonLogitsWarper(0.9)),
        ({"eta_cutoff": 0.05}, transformers.EtaLogitsWarper(0.05)),
    ],
)
@pytest.mark.parametrize("top_k", [0, 20])
def test_truncations_are_those_of_transformers(settings, warper, top_k) -> None:
    chance = np.random.default_rng(3)
    for spread in (0.3, 1.0, 4.0):
        logits = (chance.standard_normal(100) * spread).astype(np.float32)
        scores = torch.from_numpy(logits)[None] / 0.7
        if top_k:
            scores = transformers.TopKLogitsWarper(top_k)(None, scores)
        expected = torch.softmax(warper(None, scores), -1)[0].numpy()
        found = candidates(logits, Sampling(temperature=0.7, top_k=top_k, **settings))
        whole = np.zeros(100)
        whole[found.tokens] = found.probabilities
        np.testing.assert_allclose(whole, expected, atol=1e-5)


def test_a_bundle_follows_what_its_checkpoint_asks_for_and_then_its_caller(generation_bundle) -> None:
    with fastserve_runtime.load(generation_bundle()) as plain:
        first = plain.generate("abc", max_new_tokens=6).tokens
        masked = plain.generate("abc", max_new_tokens=6, logits_processors=[lambda scores, _: _only(scores, 7)])
        assert masked.tokens == (7,) * 6
    asked = {"suppress_tokens": [first[0]], "forced_eos_token_id": [40]}
    with fastserve_runtime.load(generation_bundle("asked.fsb", logits_processors=asked, ends=[40])) as model:
        found = model.generate("abc", max_new_tokens=6)
        assert first[0] not in found.tokens
        assert (found.tokens[-1], found.finish_reason) == (40, "stop")


def _only(scores, token):
    scores[np.arange(scores.size) != token] = -np.inf
    return scores


@pytest.mark.parametrize("damage", [{"suppress_tokens": "x"}, {"unheard_of": 1}, ["min_length"], 7])
def test_a_manifest_with_other_processors_is_refused(generation_bundle, damage) -> None:
    with pytest.raises(BundleError, match="logits processors"):
        fastserve_runtime.load(generation_bundle(logits_processors=damage))
