"""What a command does when something goes wrong: one clear sentence, what to do, and the right exit code."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastserve_runtime.cli.streams import show_document, tell
from fastserve_runtime.cli.view import PlainView, View
from fastserve_runtime.failure import Failure, failure_of, tell_warnings
from fastserve_runtime.processes.interruption import ctrl_c_raised


class CommandFailed(Exception):
    """A command failed, and all has been told; it ends with `exit_code`."""

    def __init__(self, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(exit_code)


@contextmanager
def failures_told(
    view: View, *, as_json: bool = False, debug: bool = False, after_interruption: Callable[[], str] = str
) -> Iterator[None]:
    """Tell of errors inside the block, and of warnings from there on.

    Args:
        view: where to.
        as_json: also print the error as a JSON document on standard output, which has nothing else then.
        debug: show tracebacks and the engines' logs.
        after_interruption: returns what to say after Ctrl-C, in a sentence; by itself nothing.

    Raises:
        CommandFailed: in place of any error.
    """
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, stream=sys.stderr)
    tell_warnings(view.warn)
    try:
        with ctrl_c_raised():
            yield
    except (Exception, KeyboardInterrupt) as error:
        failure = failure_of(error, after_interruption=after_interruption())
        if debug:
            tell("".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip())
        tell_failure(failure, view, as_json=as_json)
        raise CommandFailed(failure.exit_code) from None


def run_with_failures_told(
    command: Callable[[], int], view: View | None = None, *, as_json: bool = False, debug: bool = False
) -> int:
    """Run a command that returns an exit code, and return it, or that of its error; see `failures_told`."""
    try:
        with failures_told(view or PlainView(), as_json=as_json, debug=debug):
            return command()
    except CommandFailed as failed:
        return failed.exit_code


def tell_failure(failure: Failure, view: View, *, as_json: bool = False) -> None:
    """Tell of a failure, and print it as the one JSON document on standard output where that is asked for."""
    view.fail(failure)
    if as_json:
        try:
            show_document(failure.as_document())
        except OSError:
            return  # standard output is what failed
