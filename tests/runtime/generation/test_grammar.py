"""Texts that follow a grammar, whatever the model prefers."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastserve_runtime.errors import EnvironmentFailure
from fastserve_runtime.generation.grammar import LONGEST_GRAMMAR, Grammar, GrammarCompiler, GrammarRefused
from fastserve_runtime.generation.sampling import Sampler, Sampling
from fastserve_runtime.generation.token_loop import TokenLoop
from table_decoder import TableDecoder

VOCABULARY = 256
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 4},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "kind": {"enum": ["a", "b"]},
    },
    "required": ["name", "age", "kind"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def decoder() -> TableDecoder:
    return TableDecoder(VOCABULARY, 400)


def written(
    tokenizer, decoder, grammar: Grammar, sampling: Sampling, *, maximum: int = 300, ends=()
) -> tuple[str, str]:
    constraint = GrammarCompiler(tokenizer.to_str(), ends).constraint(grammar)
    loop = TokenLoop(decoder)
    tokens = list(loop.run([1, 2], Sampler(sampling, constraint), maximum=maximum, end_tokens=frozenset(ends)))
    return tokenizer.decode([t for t in tokens if t not in ends]), loop.finish_reason


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_what_a_model_of_chance_writes_fits_the_schema(byte_tokenizer, decoder, seed) -> None:
    text, reason = written(byte_tokenizer, decoder, Grammar.of_json_schema(PERSON), Sampling(1.0, seed=seed))
    assert reason == "stop"
    person = json.loads(text)
    assert set(person) == {"name", "age", "kind"}
    assert 0 <= person["age"] <= 120
    assert person["kind"] in ("a", "b")
    assert len(person["name"]) <= 4


def test_the_likeliest_of_what_may_come_is_taken(byte_tokenizer, decoder) -> None:
    constraint = GrammarCompiler(byte_tokenizer.to_str(), ()).constraint(Grammar.of_lark('start: "ab" | "ac" | "xx"'))
    scores = np.zeros(VOCABULARY, np.float32)
    letter = {name: byte_tokenizer.token_to_id(name) for name in "abcxz"}
    scores[letter["z"]], scores[letter["a"]], scores[letter["x"]] = 9, 5, 4
    masked = constraint.masked(scores)
    assert set(np.flatnonzero(np.isfinite(masked))) == {letter["a"], letter["x"]}
    assert masked.argmax() == letter["a"]
    assert scores[letter["z"]] == 9
    constraint.accept(letter["a"])
    assert set(np.flatnonzero(np.isfinite(constraint.masked(scores)))) == {letter["b"], letter["c"]}
    assert not constraint.is_complete
    constraint.accept(letter["c"])
    assert constraint.is_complete


def test_rows_that_pad_the_models_table_never_come(byte_tokenizer) -> None:
    constraint = GrammarCompiler(byte_tokenizer.to_str(), ()).constraint(Grammar.of_json_object())
    masked = constraint.masked(np.full(VOCABULARY + 64, 1.0, np.float32))
    assert np.isfinite(masked).any()
    assert not np.isfinite(masked[VOCABULARY:]).any()


def test_an_end_may_come_where_the_text_is_whole(byte_tokenizer, decoder) -> None:
    end = byte_tokenizer.token_to_id("~")
    grammar = Grammar.of_lark("start: /x{1,3}/")
    lengths = {written(byte_tokenizer, decoder, grammar, Sampling(1.0, seed=i), ends=(end,)) for i in range(40)}
    assert lengths == {("x", "stop"), ("xx", "stop"), ("xxx", "stop")}


def test_a_text_that_is_cut_off_is_the_beginning_of_a_sentence(byte_tokenizer, decoder) -> None:
    text, reason = written(byte_tokenizer, decoder, Grammar.of_json_object(), Sampling(), maximum=3)
    assert (len(text), text[0], reason) == (3, "{", "length")


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "objekt"}, "objekt"),
        ({"not": {"type": "string"}}, "not"),
        ({"$ref": "http://localhost/schema"}, "not present"),
    ],
)
def test_what_cannot_be_enforced_is_refused_by_name(byte_tokenizer, schema, words, capfd) -> None:
    with pytest.raises(GrammarRefused, match="The JSON schema cannot be enforced") as refused:
        GrammarCompiler(byte_tokenizer.to_str(), ()).constraint(Grammar.of_json_schema(schema))
    assert words in str(refused.value)
    assert capfd.readouterr() == ("", "")


def test_a_grammar_has_a_size() -> None:
    with pytest.raises(GrammarRefused, match=str(LONGEST_GRAMMAR)):
        Grammar.of_json_schema({"enum": ["a" * LONGEST_GRAMMAR]})


def test_a_tokenizer_of_another_kind_is_refused_by_name() -> None:
    from generation_bundles import letter_tokenizer

    with pytest.raises(EnvironmentFailure, match="no grammar can be enforced with"):
        GrammarCompiler(letter_tokenizer().decode(), ()).constraint(Grammar.of_json_object())


def test_the_library_is_named_where_it_is_missing(byte_tokenizer, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(EnvironmentFailure, match="pip install 'llguidance>="):
        GrammarCompiler(byte_tokenizer.to_str(), ()).constraint(Grammar.of_json_object())


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (
            {"type": "string", "pattern": "(?<=a)b"},
            "look-around, including look-ahead and look-behind, is not supported",
        ),
        ({"type": "string", "pattern": "(a"}, "regex parse error: unclosed group"),
        ({"oneOf": [{"const": 1}, {"const": 2}]}, "its oneOf has choices that cannot be told apart; anyOf takes such"),
    ],
)
def test_why_a_schema_cannot_be_enforced_is_said_whole(byte_tokenizer, schema, words) -> None:
    with pytest.raises(GrammarRefused) as refused:
        GrammarCompiler(byte_tokenizer.to_str(), ()).constraint(Grammar.of_json_schema(schema))
    assert str(refused.value).startswith("The JSON schema cannot be enforced: ")
    assert words in str(refused.value)
    assert ":." not in str(refused.value)
