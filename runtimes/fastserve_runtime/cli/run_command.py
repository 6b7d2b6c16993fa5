"""`fastserve-runtime run`."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import Any

from fastserve_runtime.cli.generation_options import GenerationOptions, is_generation
from fastserve_runtime.cli.streams import show, show_document
from fastserve_runtime.cli.text_outputs import TextOptions, text_outputs
from fastserve_runtime.cli.text_table import shortened, text_table
from fastserve_runtime.errors import EXIT_OK
from fastserve_runtime.loading import load

_MOST_CHARACTERS = 60


def run(arguments: Namespace) -> int:
    """Use a bundle on the texts, or talk with it."""
    options = GenerationOptions.of_arguments(arguments)
    opening = {name: getattr(arguments, name) for name in ("variant", "engine", "threads")}
    texts = TextOptions(arguments.long_text, arguments.pair, arguments.query, arguments.prompt)
    if is_generation(arguments.bundle, options, texts.given_flags()):
        from fastserve_runtime.cli.generation import generate

        return generate(arguments.bundle, arguments.texts, options, as_json=arguments.as_json, **opening)
    with load(arguments.bundle, **opening) as pipeline:
        outputs = text_outputs(pipeline, arguments.texts, texts)
    if arguments.as_json:
        show_document(outputs.documents)
    elif outputs.table is not None:
        rows = [tuple(map(_short, row)) for row in outputs.table.rows]
        show(text_table(outputs.table.headings, rows, right=outputs.table.numbers))
    else:
        for part in _embeddings(outputs.documents, outputs.arrays):
            show(part)
    return EXIT_OK


def _embeddings(documents: Sequence[dict[str, Any]], embeddings: Any) -> Iterator[str]:
    import numpy as np

    from fastserve_runtime.conformance.metrics import cosine_matrix

    vectors = [np.asarray(e) for e in embeddings]
    rows = [
        (
            str(number),
            _short(document["text"]),
            f"float32 {list(vector.shape)}",
            " ".join(f"{v:+.3f}" for v in vector.ravel()[:4]),
        )
        for number, (document, vector) in enumerate(zip(documents, vectors, strict=True), start=1)
    ]
    yield text_table(("", "text", "output", "first values"), rows)
    if len(vectors) > 1 and vectors[0].ndim == 1:
        numbers = [str(number) for number in range(1, len(vectors) + 1)]
        alike = [
            (number, *(f"{value:.3f}" for value in row))
            for number, row in zip(numbers, cosine_matrix(np.asarray(vectors)), strict=True)
        ]
        yield ""
        yield text_table(("cosine similarity", *numbers), alike, right=numbers)


def _short(text: str) -> str:
    return shortened(text, _MOST_CHARACTERS)
