"""What a command does when something goes wrong: what the runtime's commands do, in colours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from fastserve.cli.rich_view import RichView
from fastserve_runtime.cli.failures import CommandFailed, failures_told


@contextmanager
def failures_shown(
    *, as_json: bool = False, debug: bool = False, after_interruption: Callable[[], str] = str
) -> Iterator[None]:
    """Turn errors inside the block into a message and an exit code; see `failures_told`."""
    try:
        with failures_told(RichView(), as_json=as_json, debug=debug, after_interruption=after_interruption):
            yield
    except CommandFailed as failed:
        raise typer.Exit(failed.exit_code) from None
