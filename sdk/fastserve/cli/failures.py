"""What a command does when something goes wrong: one clear sentence, what to do, and the right exit code."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import typer
from rich.console import Console
from rich.markup import escape

from fastserve_runtime.failure import Failure, failure_of, tell_warnings
from fastserve_runtime.interruption import ctrl_c_raised


def error_console() -> Console:
    """Return a console for messages and progress, which go to standard error."""
    return Console(stderr=True)


def output_console() -> Console:
    """Return a console for results; where no terminal tells its width, tables get room."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


@contextmanager
def failures_shown(
    *, as_json: bool = False, debug: bool = False, after_interruption: Callable[[], str] = str
) -> Iterator[None]:
    """Turn errors inside the block into a message and an exit code.

    Args:
        as_json: also print the error as a JSON document on standard output, which has nothing else then.
        debug: show tracebacks and the engines' logs.
        after_interruption: returns what to say after Ctrl-C, in a sentence; by itself nothing.
    """
    _set_up_logging(debug=debug)
    try:
        with ctrl_c_raised():
            yield
    except (Exception, KeyboardInterrupt) as error:
        failure = failure_of(error, after_interruption=after_interruption())
        if debug:
            traceback.print_exception(error)
        _tell(failure, as_json=as_json)
        raise typer.Exit(failure.exit_code) from None


def _tell(failure: Failure, *, as_json: bool) -> None:
    console = error_console()
    console.print(f"[bold red]Error:[/] {escape(failure.problem)}", highlight=False, soft_wrap=True)
    if failure.remedy:
        console.print(escape(failure.remedy), highlight=False, soft_wrap=True)
    if as_json:
        with suppress(OSError):  # standard output may be what failed
            typer.echo(json.dumps(failure.as_document(), indent=2))


def _set_up_logging(*, debug: bool) -> None:
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, stream=sys.stderr)
    tell_warnings(_tell_warning)


def _tell_warning(message: str) -> None:
    error_console().print(f"[yellow]Warning:[/] {escape(message)}", highlight=False, soft_wrap=True)
