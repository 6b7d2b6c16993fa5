"""What a command does when something goes wrong: one clear sentence, what to do, and the right exit code."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import typer

from fastserve.cli.consoles import error_console, plain
from fastserve_runtime.cli.streams import show_document
from fastserve_runtime.failure import Failure, failure_of, tell_warnings
from fastserve_runtime.processes.interruption import ctrl_c_raised


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
    console.print(f"[bold red]Error:[/] {plain(failure.problem)}", highlight=False, soft_wrap=True)
    if failure.remedy:
        console.print(plain(failure.remedy), highlight=False, soft_wrap=True)
    if as_json:
        with suppress(OSError):  # standard output may be what failed
            show_document(failure.as_document())


def _set_up_logging(*, debug: bool) -> None:
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, stream=sys.stderr)
    tell_warnings(_tell_warning)


def _tell_warning(message: str) -> None:
    error_console().print(f"[yellow]Warning:[/] {plain(message)}", highlight=False, soft_wrap=True)
