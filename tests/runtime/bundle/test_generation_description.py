"""What bundles say of generating text."""

from __future__ import annotations

import json

import pytest

from fastserve_runtime.bundle.generation_description import generation_document, generation_lines
from fastserve_runtime.bundle.manifest import parse_manifest
from fastserve_runtime.bundle.reader import open_bundle
from manifests import tensor, valid_manifest, variant

LENGTH = {"symbol": "past", "min": 0, "max": 2**31 - 1}
OWN_AXES = {"axes": ["batch", "heads", "positions", "channels"]}
PAST = [
    tensor("past_key_values.0.key", "float32", 1, 2, LENGTH, 16),
    {**tensor("past_k", "float16", 1, 2, 8, 16), **OWN_AXES},
]
OTHERS = [tensor("input_ids", "int64", 1, LENGTH), tensor("cache_position", "int64", 64)]


def manifest(*variants, **settings):
    document = valid_manifest() | {"task": "text-generation", "variants": list(variants), "chosen": "first"}
    document["preprocessing"]["settings"] = {"context": 32, "ends": [], **settings}
    return parse_manifest(document)


def cached(*inputs, name="first", state=()):
    changed = variant(name, state=list(state))
    changed["graphs"]["main"]["inputs"] = list(inputs)
    return changed


def test_other_tasks_say_nothing():
    assert generation_document(parse_manifest(valid_manifest())) is None
    assert generation_lines(parse_manifest(valid_manifest())) == []


@pytest.mark.parametrize(
    ("changed", "size"),
    [
        (cached(*PAST, *OTHERS), 2 * 32 * 16 * 4 + 2 * 8 * 16 * 2),
        (cached(*OTHERS), 0),
        (cached(*OTHERS, state=[{**tensor("k", "int8", 2, 32, 16), "reset": "sequence"}]), 2 * 32 * 16),
        (cached(state=[{**tensor("k", "bool", 3), "reset": "sequence"}]), 3),
    ],
)
def test_the_cache_is_counted_where_it_is_kept(changed, size):
    assert generation_document(manifest(changed))["cache_bytes"] == {"first": size}


def test_of_several_graphs_the_one_with_the_largest_cache_counts():
    changed = cached(PAST[1])
    changed["graphs"]["long"] = {**changed["graphs"]["main"], "inputs": [PAST[0]]}
    assert generation_document(manifest(changed))["cache_bytes"] == {"first": 2 * 32 * 16 * 4}


def test_what_is_advised_is_told_in_words():
    advised = {"temperature": 0.2, "top_k": 0, "top_p": 0.9, "repetition_penalty": 1.0, "seed": None}
    lines = generation_lines(manifest(cached(*PAST), chat_template="x", sampling=advised))
    assert lines == [
        "context   32 tokens, prompt and answer together",
        "cache     4.6 kB of keys and values for so many tokens",
        "chat      with a chat template",
        "sampling  temperature 0.2, top_p 0.9",
    ]


def test_caches_that_differ_are_told_by_variant():
    lines = generation_lines(manifest(cached(*PAST), cached(name="second"), sampling={"repetition_penalty": 1.2}))
    assert lines[1:] == [
        "cache     first 4.6 kB, second 0 B of keys and values for so many tokens",
        "chat      without a chat template",
        "sampling  always the likeliest token, repetition_penalty 1.2",
    ]


def test_damaged_settings_are_shown_without_failing():
    lines = generation_lines(manifest(cached(*PAST), context="many", sampling=3))
    assert lines[0] == "context   many tokens, prompt and answer together"
    assert lines[-1] == "sampling  always the likeliest token"


def test_the_commands_show_it(generation_bundle):
    from fastserve_runtime.cli.inspection import inspection, source_lines

    with open_bundle(generation_bundle()) as bundle:
        document = json.loads(json.dumps(inspection(bundle)))
        assert document["generation"] == {
            "context": 64,
            "chat_template": True,
            "sampling": {},
            "cache_bytes": {"first": 7 * 2 * 2 * 64 * 16 * 4},
        }
        assert "input     prompt-tokenizer" in source_lines(bundle)
        assert "chat      with a chat template" in source_lines(bundle)
