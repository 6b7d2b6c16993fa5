"""What a checkpoint advises is done as Transformers does it, or named; nothing is passed over."""

from __future__ import annotations

import itertools

import pytest
import transformers

from fastserve_converters.checkpoints.generation_config import KNOWN, advised_sampling, read_advice, sampling_document
from fastserve_runtime.errors import UsageError
from fastserve_runtime.generation.processor_settings import NAMES, ProcessorSettings
from fastserve_runtime.generation.sampling import Sampling


@pytest.mark.parametrize(
    ("generation", "expected"),
    [
        ({}, Sampling()),
        ({"temperature": 0.6, "top_k": 20, "top_p": 0.9}, Sampling()),
        ({"do_sample": False, "temperature": 0.6}, Sampling()),
        ({"repetition_penalty": 1.2}, Sampling(repetition_penalty=1.2)),
        ({"do_sample": True}, Sampling(temperature=1.0, top_k=50)),
        (
            {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.9, "repetition_penalty": 1.1},
            Sampling(temperature=0.6, top_k=20, top_p=0.9, repetition_penalty=1.1),
        ),
        ({"do_sample": True, "top_k": 0}, Sampling(temperature=1.0)),
        ({"do_sample": True, "top_p": 0.0, "min_p": 1}, Sampling(temperature=1.0, top_k=50, top_p=0.0, min_p=1)),
        ({"do_sample": True, "top_k": -1, "top_p": None, "temperature": None}, Sampling(temperature=1.0)),
    ],
)
def test_sampling_is_what_the_checkpoint_advises_and_greedy_unless_it_samples(generation, expected) -> None:
    assert advised_sampling(generation) == expected


def test_every_key_that_transformers_has_is_known() -> None:
    config = transformers.GenerationConfig()
    theirs = {name for name in vars(config) if not name.startswith("_")}
    assert not theirs - KNOWN
    defaults = transformers.GenerationConfig._get_default_generation_params()
    advice = read_advice({**defaults, "max_length": None, "transformers_version": "5"}, 64)
    assert advice.notes == ()
    assert advice.processors == ProcessorSettings()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"num_beams": 4}, "num_beams 4, which is not applied: one text is followed, token by token"),
        ({"guidance_scale": 1.5}, "guidance_scale 1.5"),
        ({"penalty_alpha": 0.6}, "contrastive search"),
        ({"max_new_tokens": 99}, "max_new_tokens 99, .* the caller's choice"),
        ({"max_length": 4096}, "max_length 4096"),
        ({"stop_strings": ["###"]}, "stop_strings .*###.* as stop strings"),
        ({"top_h": 0.4, "do_sample": True}, "top_h 0.4"),
        ({"mirostat": 2, "chat_format": "x"}, "chat_format, mirostat, which nothing here knows"),
    ],
)
def test_what_is_not_done_is_named(given, said) -> None:
    (note,) = read_advice(given, 64).notes
    assert pytest.importorskip("re").search(said, note), note


def test_beside_it_nothing_is_noted() -> None:
    harmless = {"num_beams": 1, "use_cache": True, "length_penalty": 2.0, "stop_strings": [], "guidance_scale": 1.0}
    assert read_advice({**harmless, "bos_token_id": 1, "eos_token_id": [2, 3], "do_sample": False}, 64).notes == ()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"suppress_tokens": "all"}, "'suppress_tokens' cannot be 'all'"),
        ({"no_repeat_ngram_size": -1}, "'no_repeat_ngram_size' cannot be -1"),
        ({"min_new_tokens": 1.5}, "'min_new_tokens' cannot be 1.5"),
        ({"bad_words_ids": [[]]}, "'bad_words_ids' cannot be"),
        ({"bad_words_ids": [[7, 64]]}, "names the token 64; the model has the ids 0 to 63"),
        ({"forced_eos_token_id": 900}, "names the token 900"),
        ({"exponential_decay_length_penalty": [3]}, "'exponential_decay_length_penalty' cannot be"),
        ({"eos_token_id": "</s>"}, "'eos_token_id' cannot be '</s>'"),
        ({"eos_token_id": [2, 2.5]}, "'eos_token_id' cannot be"),
        ({"eos_token_id": True}, "'eos_token_id' cannot be True"),
        ({"repetition_penalty": 0}, "repetition_penalty cannot be 0"),
        ({"do_sample": True, "typical_p": 2}, "typical_p cannot be 2"),
    ],
)
def test_values_that_mean_nothing_are_refused_by_name(given, said) -> None:
    with pytest.raises(UsageError, match="generation_config.json.*" + said):
        read_advice(given, 64)


def test_ends_that_the_model_does_not_have_are_left_out_by_name() -> None:
    advice = read_advice({"eos_token_id": [2, 64, None, -1, 2]}, 64)
    assert advice.ends == (2,)
    (note,) = advice.notes
    assert note.endswith("the eos_token_id 64, -1; the model has the ids 0 to 63, so that no text ends there.")


def test_what_is_carried_is_what_a_manifest_holds() -> None:
    given = {
        "sequence_bias": [[[3], 2.5], [[4, 5], float("-inf")]],
        "encoder_repetition_penalty": 1.2,
        "no_repeat_ngram_size": 3,
        "encoder_no_repeat_ngram_size": 2,
        "bad_words_ids": [[9], [8, 7]],
        "min_length": 4,
        "forced_bos_token_id": 6,
        "forced_eos_token_id": 2,
        "remove_invalid_values": True,
        "exponential_decay_length_penalty": (7, 1.1),
        "suppress_tokens": [-1, 11],
        "begin_suppress_tokens": [12],
    }
    assert set(given) == set(NAMES) - {"min_new_tokens"}
    processors = read_advice(given, 64).processors
    assert ProcessorSettings.from_document(processors.document()) == processors
    assert processors.document()["suppress_tokens"] == [11]
    for one in itertools.islice(given.items(), 3, 6):
        assert list(ProcessorSettings.of(dict([one])).document()) == [one[0]]


def test_a_manifest_names_the_later_settings_of_sampling_only_where_they_matter() -> None:
    assert sampling_document(Sampling(top_k=3)) == {
        "temperature": 0.0, "top_k": 3, "top_p": 1.0, "repetition_penalty": 1.0, "seed": None,
    }  # fmt: skip
    sampling = advised_sampling({"do_sample": True, "min_p": 0.1, "typical_p": 0.9})
    assert Sampling(**sampling_document(sampling)) == sampling
