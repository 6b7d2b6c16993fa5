"""Generating text on the command line: piece by piece for people, as one JSON document for programs."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fastserve_runtime.cli.generation_options import GenerationOptions, add_flags, check_combination
from fastserve_runtime.cli.generation_summary import summary
from fastserve_runtime.cli.streams import ShownText, is_terminal, show_document, tell
from fastserve_runtime.cli.view import View
from fastserve_runtime.errors import EXIT_OK
from fastserve_runtime.loading import load
from fastserve_runtime.pipelines._given_texts import given_texts, is_list

if TYPE_CHECKING:
    from fastserve_runtime.cli.dialogue import Dialogue
    from fastserve_runtime.pipelines.text_generation.pipeline import TextGeneration


def add_run_flags(parser: ArgumentParser) -> None:
    """Add the flags that `run` has for a model that generates text."""
    add_flags(parser)


def run(arguments: Namespace, view: View) -> int:  # noqa: ARG001 -- a text is shown while it comes
    """Generate a text for each prompt of a command line, or talk; see `generate`."""
    return generate(
        arguments.bundle,
        arguments.texts,
        GenerationOptions.of_arguments(arguments),
        variant=arguments.variant,
        engine=arguments.engine,
        threads=arguments.threads,
        as_json=arguments.as_json,
    )


def generate(
    bundle: Path,
    words: Sequence[str],
    options: GenerationOptions,
    *,
    variant: str | None,
    engine: str | None,
    threads: int | None,
    as_json: bool,
) -> int:
    """Generate a text for each prompt of a command line, or talk, and return the exit code.

    Args:
        bundle: of a model that generates text.
        words: the prompts, '-' for the lines of standard input; none for a conversation.
        options: how.
        variant: take this variant.
        engine: take this engine.
        threads: how many threads one call may use.
        as_json: whether one JSON document is the result, rather than the texts as they come.

    Raises:
        FastServeError: see `check_combination`, `given_texts`, `load`, `Dialogue`, and
            `TextGeneration.restore_session` and `save_session`.
        OSError: a result or the session cannot be written.
    """
    from fastserve_runtime.cli.dialogue import Dialogue
    from fastserve_runtime.generation.saved_session import check_place

    check_combination(options, words, as_json=as_json)
    if options.session is not None:
        check_place(options.session)  # before there is something to lose
    texts = [] if options.chat else given_texts(words)
    with cast("TextGeneration", load(bundle, variant=variant, engine=engine, threads=threads)) as pipeline:
        dialogue = Dialogue(pipeline, options)
        if options.session is not None and options.session.exists():
            dialogue.restore(options.session)
        if options.chat:
            from fastserve_runtime.cli.chat import chat

            return chat(dialogue)
        if as_json:
            documents = [_document(dialogue, text) for text in texts]
            show_document(documents if is_list(words) else documents[0])
        else:
            _show_all(dialogue, texts)
        if options.session is not None:
            dialogue.save(options.session)
    return EXIT_OK


def _show_all(dialogue: Dialogue, texts: Sequence[str]) -> None:
    """Show a text for each prompt while it comes, as long as somebody reads."""
    shown = ShownText()
    for number, text in enumerate(texts):
        if number:
            shown.add("\n")
        for piece in _pieces(dialogue, text, is_cancelled=lambda: not shown.is_read):
            shown.add(piece)
        if not shown.is_read:
            return
        shown.add("\n")
        if dialogue.result is not None and (dialogue.options.verbose or is_terminal(sys.stderr)):
            tell(summary(dialogue.result, dialogue.pipeline.reused_tokens))


def _pieces(dialogue: Dialogue, text: str, is_cancelled: Callable[[], bool] = lambda: False) -> Iterator[str]:
    if dialogue.options.session is None:
        dialogue.reset()  # each prompt is a conversation of its own
    return dialogue.pieces(text, is_cancelled)


def _document(dialogue: Dialogue, text: str) -> dict[str, Any]:
    for _ in _pieces(dialogue, text):
        pass
    result = dialogue.result
    assert result is not None
    return {
        "prompt": text,
        "text": result.text,
        "tokens": len(result.tokens),
        "finish_reason": result.finish_reason,
        "prompt_tokens": result.prompt_tokens,
        "reused_tokens": dialogue.pipeline.reused_tokens,
        "first_token_seconds": result.first_token_seconds,
        "tokens_per_second": result.tokens_per_second,
    }
