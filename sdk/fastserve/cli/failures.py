"""What a command does when something goes wrong: one clear sentence, what to do, and the right exit code."""

from __future__ import annotations

import json
import logging
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import typer
from rich.console import Console
from rich.markup import escape

from fastserve_runtime.errors import EXIT_ENVIRONMENT, EXIT_INTERRUPTED, FastServeError, is_disk_full


def error_console() -> Console:
    """Return a console for messages and progress, which go to standard error."""
    return Console(stderr=True)


def output_console() -> Console:
    """Return a console for results; where no terminal tells its width, tables get room."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


@contextmanager
def failures_shown(*, as_json: bool = False, debug: bool = False) -> Iterator[None]:
    """Turn errors inside the block into a message and an exit code.

    Args:
        as_json: also print the error as a JSON document on standard output, which has nothing else then.
        debug: show tracebacks and the engines' logs.
    """
    _set_up_logging(debug=debug)
    try:
        yield
    except FastServeError as error:
        _end(error.problem, error.remedy, error.exit_code, error, as_json=as_json, debug=debug)
    except KeyboardInterrupt as error:
        remedy = "Finished steps are kept; the same command goes on from them."
        _end("Interrupted.", remedy, EXIT_INTERRUPTED, error, as_json=as_json, debug=debug)
    except OSError as error:
        if is_disk_full(error):
            problem, remedy = (
                f"The disk is full, or a file grew too large: {error.strerror}.",
                "Free some space.",
            )
        else:
            problem = f"{error.strerror or error}" + (f": '{error.filename}'." if error.filename else ".")
            remedy = "Check the path and your permissions."
        _end(problem, remedy, EXIT_ENVIRONMENT, error, as_json=as_json, debug=debug)
    except Exception as error:  # the last resort: still no traceback at users
        problem = f"FastServe met an error that it did not expect: {type(error).__name__}: {error}"
        _end(
            problem,
            "Please report it with what --debug shows.",
            EXIT_ENVIRONMENT,
            error,
            as_json=as_json,
            debug=debug,
        )


def _end(problem: str, remedy: str, exit_code: int, error: BaseException, *, as_json: bool, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    console = error_console()
    console.print(f"[bold red]Error:[/] {escape(problem)}", highlight=False, soft_wrap=True)
    if remedy:
        console.print(escape(remedy), highlight=False, soft_wrap=True)
    if as_json:
        document = {"error": {"problem": problem, "remedy": remedy, "exit_code": exit_code}}
        typer.echo(json.dumps(document, indent=2))
    raise typer.Exit(exit_code) from None


def _set_up_logging(*, debug: bool) -> None:
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, stream=sys.stderr)
    warnings.showwarning = _show_warning


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,  # noqa: ARG001 -- the signature is Python's
    lineno: int,  # noqa: ARG001
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    if issubclass(category, UserWarning):
        error_console().print(f"[yellow]Warning:[/] {escape(str(message))}", highlight=False, soft_wrap=True)
