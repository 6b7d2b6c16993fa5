"""What the command `run` does with a model of texts: its flags, the call, and how what it gives is shown."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fastserve_runtime.pipelines._given_texts import given_pairs, given_texts
from fastserve_runtime.preprocessors.text import DEFAULT_LONG_TEXT, LONG_TEXT, LongText, checked_long_text
from fastserve_runtime.results import Results, Table, result_documents, result_table

if TYPE_CHECKING:
    from fastserve_runtime.bundle.raw_inputs import Text
    from fastserve_runtime.pipelines import Pipeline


def add_text_flags(parser: ArgumentParser, usual: LongText = DEFAULT_LONG_TEXT) -> None:
    """Add the flags that `run` has for models of texts; see `text_options` and `given_samples`.

    Args:
        parser: of `run`.
        usual: what becomes of texts with too many tokens where nothing is said.
    """
    parser.add_argument(
        "--long-text",
        choices=LONG_TEXT,
        default=usual,
        help="Truncate texts with too many tokens, or split them; %(default)s if left out.",
    )
    parser.add_argument(
        "--pair",
        action="store_true",
        help="Take the texts two by two, for a model of pairs; in lines with a tab between.",
    )
    parser.add_argument(
        "--prompt",
        metavar="NAME",
        help="Put this prompt of the model's before each text, '' none; its default one if left out.",
    )


def text_options(arguments: Namespace) -> dict[str, Any]:
    """Return `long_text` and `prompt` of a command line, as text pipelines are called with them."""
    return {"long_text": checked_long_text(arguments.long_text), "prompt": arguments.prompt}


def given_samples(arguments: Namespace) -> Sequence[Text]:
    """Return the texts of a command line, or its pairs.

    Raises:
        UsageError: there is none, or they are not pairs where pairs were asked for.
    """
    return given_pairs(arguments.texts) if arguments.pair else given_texts(arguments.texts)


def run_texts(pipeline: Pipeline, arguments: Namespace) -> Results:
    """Run a pipeline on the texts of a command line, and show what it gives by its type: fields, or arrays.

    Raises:
        UsageError: there is no text, or they are not given as the pipeline takes them.
    """
    samples = given_samples(arguments)
    outputs = pipeline(samples, **text_options(arguments))
    documents = result_documents(samples, outputs)
    if isinstance(documents[0]["output"], dict):
        cells = [tuple(map(str, document["output"].values())) for document in documents]
        return Results(documents, (result_table(documents, tuple(documents[0]["output"]), cells),))
    return Results(documents, tuple(_array_tables(documents, outputs)))


def _array_tables(documents: Sequence[dict[str, Any]], outputs: Any) -> Iterator[Table]:
    """Yield a table of arrays, and of vectors one of how alike they are."""
    import numpy as np

    from fastserve_runtime.conformance.metrics import cosine_matrix

    arrays = [np.asarray(output) for output in outputs]
    rows = tuple(
        (
            str(number),
            document["text"],
            f"float32 {list(array.shape)}",
            " ".join(f"{v:+.3f}" for v in array.ravel()[:4]),
        )
        for number, (document, array) in enumerate(zip(documents, arrays, strict=True), start=1)
    )
    yield Table(("", "text", "output", "first values"), rows, of_texts=True)
    if len(arrays) > 1 and arrays[0].ndim == 1:
        numbers = tuple(str(number) for number in range(1, len(arrays) + 1))
        alike = tuple(
            (number, *(f"{value:.3f}" for value in row))
            for number, row in zip(numbers, cosine_matrix(np.asarray(arrays)), strict=True)
        )
        yield Table(("cosine similarity", *numbers), alike, numbers)
