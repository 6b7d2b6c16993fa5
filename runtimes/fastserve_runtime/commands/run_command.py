"""`fastserve-runtime run`."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import Any

from fastserve_runtime.commands.generation_options import GenerationOptions, is_generation
from fastserve_runtime.commands.given_texts import given_texts
from fastserve_runtime.commands.streams import show, show_document
from fastserve_runtime.commands.text_table import shortened, text_table
from fastserve_runtime.errors import EXIT_OK
from fastserve_runtime.loading import load
from fastserve_runtime.results import result_documents
from fastserve_runtime.text import DEFAULT_LONG_TEXT

_MOST_CHARACTERS = 60


def run(arguments: Namespace) -> int:
    """Use a bundle on the texts, or talk with it."""
    options = GenerationOptions.of_arguments(arguments)
    opening = {name: getattr(arguments, name) for name in ("variant", "engine", "threads")}
    if is_generation(arguments.bundle, options, arguments.long_text):
        from fastserve_runtime.commands.generation import generate

        return generate(arguments.bundle, arguments.texts, options, as_json=arguments.as_json, **opening)
    texts = given_texts(arguments.texts)
    with load(arguments.bundle, **opening) as pipeline:
        results = pipeline(texts, long_text=arguments.long_text or DEFAULT_LONG_TEXT)
    documents = result_documents(texts, results)
    if arguments.as_json:
        show_document(documents)
    elif isinstance(documents[0]["output"], dict):
        show(_labels(documents))
    else:
        for part in _embeddings(texts, results):
            show(part)
    return EXIT_OK


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
