"""The command `run`."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fastserve_runtime.cli.generation_options import GenerationOptions, is_generation
from fastserve_runtime.cli.streams import show_document
from fastserve_runtime.cli.tensor_run import run_tensors, takes_tensors
from fastserve_runtime.cli.text_outputs import TextOptions, check_options, text_outputs
from fastserve_runtime.cli.view import Table, View
from fastserve_runtime.errors import EXIT_OK, UsageError
from fastserve_runtime.loading import load
from fastserve_runtime.plugins import PIPELINES
from fastserve_runtime.results import Results

if TYPE_CHECKING:
    from fastserve_runtime.pipelines import Pipeline


def run(arguments: Namespace, view: View) -> int:
    """Use a bundle on the texts or the tensors, or talk with it."""
    options = GenerationOptions.of_arguments(arguments)
    opening = {name: getattr(arguments, name) for name in ("variant", "engine", "threads")}
    texts = TextOptions(arguments.long_text, arguments.pair, arguments.query, arguments.prompt)
    if takes_tensors(arguments.bundle):
        return run_tensors(
            arguments.bundle,
            arguments.texts,
            arguments.output,
            view,
            given_flags=[*texts.given_flags(), *options.given_flags()],
            as_json=arguments.as_json,
            **opening,
        )
    if arguments.output is not None:
        raise UsageError("--output was given, and the bundle's model takes texts.", "Leave it out.")
    if is_generation(arguments.bundle, options, texts.given_flags()):
        from fastserve_runtime.cli.generation import generate

        return generate(arguments.bundle, arguments.texts, options, as_json=arguments.as_json, **opening)
    with load(arguments.bundle, **opening) as pipeline:
        answer: Callable[[Pipeline, Namespace], Results] | None = getattr(
            PIPELINES.load(pipeline.task), "run_arguments", None
        )
        if answer is not None:
            check_options(pipeline.task, texts)
            results = answer(pipeline, arguments)
            if arguments.as_json:
                show_document(results.documents)
            else:
                view.table(Table(results.headings, results.rows, results.numbers, of_texts=True))
            return EXIT_OK
        outputs = text_outputs(pipeline, arguments.texts, texts)
    if arguments.as_json:
        show_document(outputs.documents)
    elif outputs.table is not None:
        view.table(outputs.table)
    else:
        for table in _embeddings(outputs.documents, outputs.arrays):
            view.table(table)
    return EXIT_OK


def _embeddings(documents: Sequence[dict[str, Any]], embeddings: Any) -> Iterator[Table]:
    import numpy as np

    from fastserve_runtime.conformance.metrics import cosine_matrix

    vectors = [np.asarray(e) for e in embeddings]
    rows = tuple(
        (
            str(number),
            document["text"],
            f"float32 {list(vector.shape)}",
            " ".join(f"{v:+.3f}" for v in vector.ravel()[:4]),
        )
        for number, (document, vector) in enumerate(zip(documents, vectors, strict=True), start=1)
    )
    yield Table(("", "text", "output", "first values"), rows, of_texts=True)
    if len(vectors) > 1 and vectors[0].ndim == 1:
        numbers = tuple(str(number) for number in range(1, len(vectors) + 1))
        alike = tuple(
            (number, *(f"{value:.3f}" for value in row))
            for number, row in zip(numbers, cosine_matrix(np.asarray(vectors)), strict=True)
        )
        yield Table(("cosine similarity", *numbers), alike, numbers)
