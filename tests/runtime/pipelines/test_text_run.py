"""What `run` does with a pipeline of texts that has no way of its own."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import dataclass

import numpy as np

from fastserve_runtime.pipelines._text_run import add_text_flags, run_texts


@dataclass(frozen=True)
class Counted:
    letters: int
    last: str


class Counting:
    """Keeps how it was called."""

    def __call__(self, texts, **options):
        self.options = options
        return [Counted(len(text), text[-1]) for text in texts]


class Embedding:
    def __call__(self, texts, **_):
        return np.array([[len(text), 1] for text in texts], np.float32)


def arguments(*words: str):
    parser = ArgumentParser()
    parser.add_argument("texts", nargs="*")
    add_text_flags(parser)
    return parser.parse_args(words)


def test_fields_become_columns() -> None:
    pipeline = Counting()
    found = run_texts(pipeline, arguments("one", "other", "--long-text", "split", "--prompt", "query"))
    assert [document["output"] for document in found.documents] == [
        {"letters": 3, "last": "e"},
        {"letters": 5, "last": "r"},
    ]
    (table,) = found.tables
    assert table.headings == ("text", "letters", "last")
    assert table.rows == (("one", "3", "e"), ("other", "5", "r"))
    assert pipeline.options == {"long_text": "split", "prompt": "query"}


def test_vectors_are_shown_with_how_alike_they_are() -> None:
    first, alike = run_texts(Embedding(), arguments("one", "two")).tables
    assert first.rows[0] == ("1", "one", "float32 [2]", "+3.000 +1.000")
    assert alike.rows == (("1", "1.000", "1.000"), ("2", "1.000", "1.000"))
