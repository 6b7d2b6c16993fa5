import io
import sys
from pathlib import Path

import numpy as np
import pytest

from manifests import LABELS, expected_embeddings


@pytest.fixture
def typed(monkeypatch):
    """Put a text on standard input."""

    def typed(text: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    return typed


def test_embeddings_are_shown_with_how_alike_the_texts_are(command, embeddings: Path):
    ended = command("run", embeddings, "a b", "c")
    assert (ended.code, ended.err) == (0, "")
    assert "float32 [4]" in ended.out
    assert "cosine similarity" in ended.out
    assert "1.000" in ended.out


def test_one_text_is_compared_with_none(command, embeddings: Path):
    ended = command("run", embeddings, "a b")
    assert ended.code == 0
    assert "cosine similarity" not in ended.out


def test_labels_are_shown_with_scores(command, labels: Path):
    ended = command("run", labels, "a b")
    assert ended.out.splitlines()[2].split()[:2] == ["a", "b"]
    assert any(label in ended.out for label in LABELS)


def test_json_has_every_number(command, embeddings: Path):
    document = command("run", embeddings, "a b", "c", "--json").document
    assert [entry["text"] for entry in document] == ["a b", "c"]
    outputs = np.array([entry["output"] for entry in document], np.float32)
    np.testing.assert_allclose(outputs, expected_embeddings(["a b", "c"]), rtol=1e-5)


def test_a_dash_stands_for_the_lines_of_standard_input(command, embeddings: Path, typed):
    typed("b\nc d\n")
    document = command("run", embeddings, "a", "-", "e", "--json").document
    assert [entry["text"] for entry in document] == ["a", "b", "c d", "e"]


def test_standard_input_without_text_ends_with_2(command, embeddings: Path, typed):
    typed("")
    ended = command("run", embeddings, "-")
    assert ended.code == 2
    assert "one text a line" in ended.err


def test_standard_input_twice_ends_with_2(command, embeddings: Path):
    assert command("run", embeddings, "-", "-").code == 2


def test_a_long_text_is_shown_cut_off(command, embeddings: Path):
    ended = command("run", embeddings, "a " * 100)
    assert "…" in ended.out
    assert max(map(len, ended.out.splitlines())) < 130
    assert "Warning: 1 of 1 texts" in ended.err


def test_the_engine_and_the_threads_are_passed_on(command, embeddings: Path):
    assert command("run", embeddings, "a", "--engine", "litert").code == 2
    assert command("run", embeddings, "a", "--threads", "0").code == 2
    assert command("run", embeddings, "a", "--threads", "2", "--engine", "onnxruntime").code == 0
