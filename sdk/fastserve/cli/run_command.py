"""The command that uses a bundle: `run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

import fastserve_runtime
from fastserve.cli.bundle_commands import AsJson, Bundle, Debug, EngineOption, Threads, VariantOption
from fastserve.cli.consoles import output_console, plain
from fastserve.cli.failures import failures_shown
from fastserve_runtime.cli.generation_options import GenerationOptions, is_generation
from fastserve_runtime.cli.streams import prepare_streams, show_document
from fastserve_runtime.cli.text_outputs import TextOptions, text_outputs
from fastserve_runtime.errors import EXIT_OK


def run(
    bundle: Bundle,
    texts: Annotated[
        list[str] | None,
        typer.Argument(help="One text or several; '-' stands for the lines of standard input. None with --chat."),
    ] = None,
    variant: VariantOption = None,
    engine: EngineOption = None,
    threads: Threads = 1,
    long_text: Annotated[
        str | None,
        typer.Option(help="truncate texts with too many tokens (if left out), or split them; not for text generation."),
    ] = None,
    pair: Annotated[
        bool,
        typer.Option("--pair", help="Take the texts two by two, for a model of pairs; in lines with a tab between."),
    ] = False,
    query: Annotated[
        str | None, typer.Option(help="Rank the texts for this query, with a model that ranks texts.")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            help="Put this prompt of the model's before each text, '' none; its default one if left out.",
            metavar="NAME",
        ),
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Generate at most so many tokens; 256 if left out.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="0 always takes the likeliest token; what the model advises if left out.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Choose among so many of the likeliest tokens; 0 for all.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Choose among the likeliest tokens that make up this probability.")
    ] = None,
    min_p: Annotated[
        float | None,
        typer.Option(help="Choose among tokens with at least this share of the likeliest one's probability."),
    ] = None,
    repetition_penalty: Annotated[
        float | None, typer.Option(help="Make tokens that were seen less likely; 1 for no penalty.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Draw the same tokens again.")] = None,
    system: Annotated[str | None, typer.Option(help="Tell a chat model this before the conversation.")] = None,
    session: Annotated[
        Path | None, typer.Option(help="Go on from a saved session if there is one, and save it at the end.")
    ] = None,
    stop: Annotated[list[str] | None, typer.Option(help="End a text before this; may be given again.")] = None,
    overflow: Annotated[
        str | None, typer.Option(help="error refuses prompts longer than the context, window drops their beginning.")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Continue the text as it is, also with a chat model.")] = False,
    chat: Annotated[bool, typer.Option("--chat", help="Talk with the model; /help tells the commands.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Tell figures of each text on standard error.")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Use a bundle: embeddings and how alike the texts are, labels with scores, or generated text."""
    words = texts or []
    with failures_shown(as_json=as_json, debug=debug):
        options = GenerationOptions(
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            stop=tuple(stop or ()),
            seed=seed,
            overflow=overflow,
            system=system,
            raw=raw,
            chat=chat,
            session=session,
            verbose=verbose,
        )
        opening: dict[str, Any] = {"variant": variant, "engine": engine, "threads": threads}
        text_options = TextOptions(long_text, pair, query, prompt)
        if is_generation(bundle, options, text_options.given_flags()):
            from fastserve_runtime.cli.generation import generate

            prepare_streams()
            code = generate(bundle, words, options, as_json=as_json, **opening)
        else:
            code = _show_outputs(bundle, words, text_options, opening, as_json=as_json)
    if code != EXIT_OK:
        raise typer.Exit(code)


def _show_outputs(
    bundle: Path, words: list[str], options: TextOptions, opening: dict[str, Any], *, as_json: bool
) -> int:
    with fastserve_runtime.load(bundle, **opening) as pipeline:
        outputs = text_outputs(pipeline, words, options)
    if as_json:
        show_document(outputs.documents)
    elif outputs.table is not None:
        table = Table(*outputs.table.headings)
        for row in outputs.table.rows:
            table.add_row(*map(plain, row))
        output_console().print(table)
    else:
        _print_embeddings([document["text"] for document in outputs.documents], outputs.arrays)
    return EXIT_OK


def _print_embeddings(texts: list[str], embeddings: Any) -> None:
    import numpy as np

    from fastserve_runtime.conformance.metrics import cosine_matrix

    console = output_console()
    table = Table("", "text", "output", "first values")
    for number, (text, vector) in enumerate(zip(texts, embeddings, strict=True), start=1):
        values = np.asarray(vector)
        shape = " × ".join(map(str, values.shape))
        table.add_row(
            str(number), plain(text), plain(f"float32 [{shape}]"), " ".join(f"{v:+.3f}" for v in values.ravel()[:4])
        )
    console.print(table)
    if len(texts) > 1 and np.asarray(embeddings[0]).ndim == 1:
        similarity = cosine_matrix(np.asarray(embeddings))
        matrix = Table("cosine similarity", *map(str, range(1, len(texts) + 1)))
        for number, row in enumerate(similarity, start=1):
            matrix.add_row(str(number), *(f"{value:.3f}" for value in row))
        console.print(matrix)
