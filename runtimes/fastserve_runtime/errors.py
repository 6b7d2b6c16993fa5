"""Errors that FastServe raises on purpose, each with the exit code that a command ends with.

An error says in one sentence what is wrong, with the value, and in one what to do. The exit codes are the same
for every command; `docs/exit-codes.md` lists them.
"""

from __future__ import annotations

import errno
import os

EXIT_OK = 0
EXIT_ENVIRONMENT = 1
EXIT_USAGE = 2
EXIT_NOTHING_FITS = 3
EXIT_CONFORMANCE = 4
EXIT_BUNDLE = 5
EXIT_INTERRUPTED = 130

_FULL_DISK = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


class FastServeError(Exception):
    """What went wrong and what to do about it.

    Attributes:
        problem: one sentence of what is wrong, with the value.
        remedy: one sentence of what to do; may be empty where nothing can be done.
        exit_code: what a command that meets this error exits with.
    """

    exit_code = EXIT_ENVIRONMENT

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem} {remedy}".strip())

    def reword(self, text: str, other: str) -> None:
        """Write something in another way wherever it is named."""
        self.problem, self.remedy = self.problem.replace(text, other), self.remedy.replace(text, other)
        self.args = (f"{self.problem} {self.remedy}".strip(),)


class EnvironmentFailure(FastServeError):
    """The machine or its installation failed: disk full, engine or converter missing or crashed."""

    exit_code = EXIT_ENVIRONMENT


class UsageError(FastServeError):
    """What was asked for is wrong: an argument, a model, a budget, a text."""

    exit_code = EXIT_USAGE


class InputError(UsageError):
    """An input cannot be used: a tensor of the wrong name, dtype, rank or shape, a message, or a prompt."""


class BundleError(FastServeError):
    """A bundle is damaged, incomplete, foreign, or of a version that this runtime does not read."""

    exit_code = EXIT_BUNDLE


def one_line(error: BaseException) -> str:
    """Return what a library says of an error on one line and without a full stop, to stand inside a sentence."""
    return " ".join(str(error).split()).rstrip(".")


class ProcessDied(EnvironmentFailure):
    """A process that was to do something ended in the middle of it, for a reason that may not come again."""


class DiskFull(EnvironmentFailure):
    """A file could not grow: nothing that comes after it can be written either."""

    def __init__(self, doing: str = "") -> None:
        """Say so.

        Args:
            doing: what could not be done, or in which step, as the end of the sentence; may be empty.
        """
        super().__init__(f"The disk is full, or a file grew too large{doing}.", "Free some space.")


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or one that it was raised from, says that a file could not grow.

    Libraries written in other languages raise errors of their own, which have the system's words in them.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DiskFull) or (isinstance(cause, OSError) and cause.errno in _FULL_DISK):
            return True
        if not isinstance(cause, FastServeError) and says_disk_full(str(cause)):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def says_disk_full(words: str) -> bool:
    """Whether words of a library or a process that ended say that a file could not grow."""
    import re

    system = "|".join(re.escape(os.strerror(number)) for number in _FULL_DISK)
    # Behind them: numpy's `tofile`, and PyTorch's writer of archives, which also falls over while it closes one.
    torch = r"PytorchStreamWriter failed writing|\bunexpected pos \d+ vs \d+"
    pattern = rf"{system}|\b\d+ requested and \d+ written\b|{torch}"
    return re.search(pattern, words) is not None
