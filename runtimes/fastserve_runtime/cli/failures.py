"""What a command does when something goes wrong: one clear sentence, what to do, and the right exit code."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable

from fastserve_runtime.cli.streams import printable, show_document, tell
from fastserve_runtime.failure import Failure, failure_of, tell_warnings
from fastserve_runtime.processes.interruption import ctrl_c_raised


def run_with_failures_told(command: Callable[[], int], *, as_json: bool = False, debug: bool = False) -> int:
    """Run a command and return its exit code; errors become a message and their exit code.

    Args:
        command: returns an exit code.
        as_json: also print the error as a JSON document on standard output, which has nothing else then.
        debug: show tracebacks and the engines' logs.
    """
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, stream=sys.stderr)
    tell_warnings(lambda message: tell(f"Warning: {printable(message)}"))
    try:
        with ctrl_c_raised():
            return command()
    except (Exception, KeyboardInterrupt) as error:
        failure = failure_of(error)
        if debug:
            tell("".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip())
        tell_failure(failure, as_json=as_json)
        return failure.exit_code


def tell_failure(failure: Failure, *, as_json: bool = False) -> None:
    """Write a failure on standard error, and as the one JSON document on standard output where that is asked for."""
    tell(f"Error: {printable(failure.problem)}")
    if failure.remedy:
        tell(printable(failure.remedy))
    if as_json:
        try:
            show_document(failure.as_document())
        except OSError:
            return  # standard output is what failed
