"""`fastserve-runtime run`."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import Any

from fastserve_runtime.commands.streams import show, show_document, standard_input_lines
from fastserve_runtime.commands.text_table import shortened, text_table
from fastserve_runtime.errors import EXIT_OK, UsageError
from fastserve_runtime.loading import load
from fastserve_runtime.results import result_documents

STANDARD_INPUT = "-"
_MOST_CHARACTERS = 60


def run(arguments: Namespace) -> int:
    """Use a bundle on the texts."""
    texts = given_texts(arguments.texts)
    pipeline = load(arguments.bundle, variant=arguments.variant, engine=arguments.engine, threads=arguments.threads)
    try:
        results = pipeline(texts, long_text=arguments.long_text)
    finally:
        pipeline.close()
    documents = result_documents(texts, results)
    if arguments.as_json:
        show_document(documents)
    elif isinstance(documents[0]["output"], dict):
        show(_labels(documents))
    else:
        for part in _embeddings(texts, results):
            show(part)
    return EXIT_OK


def given_texts(words: Sequence[str]) -> list[str]:
    """Return the texts of the command line, the lines of standard input in the place of '-'.

    Raises:
        UsageError: there is none, or '-' stands there twice.
    """
    if words.count(STANDARD_INPUT) > 1:
        raise UsageError("Standard input was asked for twice.", "Give '-' once.")
    texts: list[str] = []
    for word in words:
        texts.extend(standard_input_lines() if word == STANDARD_INPUT else [word])
    if not texts:
        raise UsageError("Standard input holds no text.", "Write one text a line.")
    return texts


def _labels(documents: Sequence[dict[str, Any]]) -> str:
    rows = [(_short(d["text"]), d["output"]["label"], f"{d['output']['score']:.3f}") for d in documents]
    return text_table(("text", "label", "score"), rows, right=("score",))


def _embeddings(texts: Sequence[str], embeddings: Any) -> Iterator[str]:
    import numpy as np

    from fastserve_runtime.metrics import cosine_matrix

    vectors = [np.asarray(e) for e in embeddings]
    rows = [
        (str(number), _short(text), f"float32 {list(vector.shape)}", " ".join(f"{v:+.3f}" for v in vector.ravel()[:4]))
        for number, (text, vector) in enumerate(zip(texts, vectors, strict=True), start=1)
    ]
    yield text_table(("", "text", "output", "first values"), rows)
    if len(texts) > 1 and vectors[0].ndim == 1:
        numbers = [str(number) for number in range(1, len(texts) + 1)]
        alike = [
            (number, *(f"{value:.3f}" for value in row))
            for number, row in zip(numbers, cosine_matrix(np.asarray(vectors)), strict=True)
        ]
        yield ""
        yield text_table(("cosine similarity", *numbers), alike, right=numbers)


def _short(text: str) -> str:
    return shortened(text, _MOST_CHARACTERS)
