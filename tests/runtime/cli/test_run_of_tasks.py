"""`run` with pairs of texts, queries with documents, values and several labels."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest

from fastserve_runtime.errors import UsageError
from fastserve_runtime.pipelines._given_texts import given_pairs
from manifests import text_bundle, write_directory
from pair_bundles import expected_logits, pair_bundle


@pytest.fixture
def ranker(tmp_path: Path) -> Path:
    return write_directory(tmp_path / "rank.fsb", *pair_bundle(activation="identity"))


@pytest.fixture
def values(tmp_path: Path) -> Path:
    document, contents = pair_bundle("text-classification", labels=["LABEL_0"], problem_type="regression")
    return write_directory(tmp_path / "values.fsb", document, contents)


def test_documents_are_shown_by_their_rank(command, ranker: Path):
    documents = ["a b", "c", "d e"]
    expected = expected_logits([("b", d) for d in documents])
    order = np.argsort(-expected)
    found = command("run", ranker, "--query", "b", *documents, "--json").document
    assert [entry["text"] for entry in found] == [documents[i] for i in order]
    assert [entry["output"]["rank"] for entry in found] == [1, 2, 3]
    assert [entry["output"]["index"] for entry in found] == order.tolist()
    assert {entry["query"] for entry in found} == {"b"}
    np.testing.assert_allclose([entry["output"]["score"] for entry in found], expected[order], rtol=1e-5)
    shown = command("run", ranker, "--query", "b", *documents).out.splitlines()
    assert shown[0].split() == ["rank", "text", "score"]
    assert f"{expected[order[0]]:.4f}" in shown[2]


def test_pairs_are_shown_in_their_order_with_scores(command, ranker: Path):
    found = command("run", ranker, "--pair", "a b", "c", "d", "e f", "--json").document
    assert [(entry["text"], entry["text_pair"]) for entry in found] == [("a b", "c"), ("d", "e f")]
    expected = expected_logits([("a b", "c"), ("d", "e f")])
    np.testing.assert_allclose([entry["output"]["score"] for entry in found], expected, rtol=1e-5)


def test_a_value_is_shown_as_it_is(command, values: Path):
    expected = expected_logits([("a b", "c")])[0]
    shown = command("run", values, "--pair", "a b", "c").out.splitlines()
    assert shown[0].split() == ["text", "second", "text", "value"]
    assert f"{expected:.4f}" in shown[2]
    (entry,) = command("run", values, "--pair", "a b", "c", "--json").document
    assert entry["output"]["score"] == pytest.approx(expected, rel=1e-5)


def test_several_labels_are_shown_with_their_scores(command, tmp_path: Path):
    document, contents = text_bundle("logits")
    document["task_settings"]["problem_type"] = "multi_label_classification"
    bundle = write_directory(tmp_path / "labels.fsb", document, contents)
    (entry,) = command("run", bundle, "a b", "--json").document
    shown = command("run", bundle, "a b").out
    for label in entry["output"]["labels"]:
        assert f"{label} {entry['output']['scores'][label]:.3f}" in shown


def test_standard_input_has_a_pair_in_a_line(command, ranker: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\tb\nc\td e\n")))
    found = command("run", ranker, "--pair", "-", "--json").document
    assert [(entry["text"], entry["text_pair"]) for entry in found] == [("a", "b"), ("c", "d e")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a", "b"], "none was given"),
        (["--pair", "a", "b", "c"], "3 texts were given"),
        (["--pair", "--query", "a", "b"], "cannot go together"),
        (["--query", "a"], "No text was given"),
        (["--pair", "a", "b", "--long-text", "split"], "cannot be split"),
    ],
)
def test_what_cannot_be_ranked_ends_with_2(command, ranker: Path, words: list[str], said: str):
    ended = command("run", ranker, *words)
    assert ended.code == 2
    assert said in ended.err


def test_bundles_of_single_texts_refuse_pairs_and_queries_and_say_what_to_do(command, labels: Path):
    ended = command("run", labels, "--pair", "a", "b")
    assert ended.code == 2
    assert "exported for single texts" in ended.err
    assert "fastserve export --pairs" in ended.err
    ended = command("run", labels, "--query", "a", "b")
    assert ended.code == 2
    assert "--query cannot be used with a bundle of the task 'text-classification'" in ended.err


def test_bundles_of_pairs_refuse_single_texts(command, values: Path):
    ended = command("run", values, "a")
    assert ended.code == 2
    assert "--pair" in ended.err


def test_a_line_without_one_tab_is_no_pair(monkeypatch: pytest.MonkeyPatch):
    for line in ("a b", "a\tb\tc"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(line.encode())))
        with pytest.raises(UsageError, match="is no pair of texts"):
            given_pairs(["-"])
    with pytest.raises(UsageError, match="two by two"):
        given_pairs(["-", "a"])


def test_a_bundle_of_pairs_verifies_with_its_preprocessing(command, ranker: Path):
    ended = command("verify", ranker)
    assert ended.code == 0, ended.err
    assert "preprocessing" in ended.out
