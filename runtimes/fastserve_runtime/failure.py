"""What a command tells of an error: one sentence of what is wrong, one of what to do, and the exit code."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TextIO

from fastserve_runtime.errors import (
    EXIT_ENVIRONMENT,
    EXIT_INTERRUPTED,
    DiskFull,
    FastServeError,
    is_disk_full,
    one_line,
)

_MAX_CHARACTERS = 4000
"""Of a sentence: a damaged file's values may be as long as the file."""


@dataclass(frozen=True)
class Failure:
    """An error as it is told; the remedy may be empty."""

    problem: str
    remedy: str
    exit_code: int

    def __post_init__(self) -> None:
        """Keep what no terminal has room for out of the sentences."""
        object.__setattr__(self, "problem", _bounded(self.problem))
        object.__setattr__(self, "remedy", _bounded(self.remedy))

    def as_document(self) -> dict[str, Any]:
        """Return the failure as the one JSON document of a command that failed."""
        return {"error": {"problem": self.problem, "remedy": self.remedy, "exit_code": self.exit_code}}


def failure_of(error: BaseException, *, after_interruption: str = "") -> Failure:
    """Say what went wrong, without a traceback.

    Args:
        error: what was raised.
        after_interruption: what to do after Ctrl-C.
    """
    if isinstance(error, Exception) and is_disk_full(error):
        return _disk_full(error)
    if isinstance(error, FastServeError):
        return Failure(error.problem, error.remedy, error.exit_code)
    if isinstance(error, KeyboardInterrupt):
        return Failure("Interrupted.", after_interruption, EXIT_INTERRUPTED)
    if isinstance(error, OSError):
        problem = f"{error.strerror or error}" + (f": '{error.filename}'." if error.filename else ".")
        return Failure(problem, "Check the path and your permissions.", EXIT_ENVIRONMENT)
    if isinstance(error, ModuleNotFoundError) and error.name == "numpy":
        return Failure("numpy is not installed.", "Install it: pip install numpy.", EXIT_ENVIRONMENT)
    problem = f"FastServe met an error that it did not expect: {type(error).__name__}: {error}"
    return Failure(problem, "Please report it with what --debug shows.", EXIT_ENVIRONMENT)


def _bounded(text: str) -> str:
    if len(text) <= _MAX_CHARACTERS:
        return text
    half = _MAX_CHARACTERS // 2
    return f"{text[:half]} … {text[-half:]}"


def _disk_full(error: Exception) -> Failure:
    """Say so whatever became of it on its way: what a library could not write is mostly told as damage."""
    words = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
    told = error if isinstance(error, DiskFull) else DiskFull(f" ({words})")
    return Failure(told.problem, told.remedy, told.exit_code)


def tell_warnings(tell: Callable[[str], object]) -> None:
    """Have warnings told in one line each; those that are meant for programmers are not told.

    Args:
        tell: gets the warning's message.
    """

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,  # noqa: ARG001 -- the signature is Python's
        lineno: int,  # noqa: ARG001
        file: TextIO | None = None,  # noqa: ARG001
        line: str | None = None,  # noqa: ARG001
    ) -> None:
        if issubclass(category, UserWarning):
            tell(str(message))

    warnings.showwarning = show
