"""The child's side of `child`: answering requests until there are no more."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import IO, TYPE_CHECKING, Any

from fastserve_runtime.errors import EXIT_OK, EnvironmentFailure, FastServeError
from fastserve_runtime.processes.framing import read_message, write_message
from fastserve_runtime.processes.lifeline import ask_kernel, end_with_parent

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Tensors

    Answer = Callable[[Mapping[str, Any], Tensors], tuple[Mapping[str, Any], Tensors]]

_MEMORY = "--memory="


def answer_requests(answer: Answer, *, starts_nothing: bool = False) -> int:
    """Answer the requests of the process that started this one, and return an exit code.

    Libraries print to standard output: from here on that is standard error, so that answers stand alone. Where the
    command line has `--memory=BYTES`, the address space is bounded.

    Args:
        answer: returns the fields and the arrays of an answer. A FastServeError is raised again at the other side; any
            other error ends this process, and its traceback is in the log.
        starts_nothing: whether this process starts no others: the kernel ends it with its parent then, even while
            native code keeps all threads from running.
    """
    end_with_parent()
    if starts_nothing:
        ask_kernel()
    for argument in sys.argv[1:]:
        if argument.startswith(_MEMORY):
            _limit_memory(int(argument.removeprefix(_MEMORY)))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, answers, answer)
    return EXIT_OK


def serve(requests: IO[bytes], answers: IO[bytes], answer: Answer) -> None:
    """Answer the requests of one stream on the other, until it ends."""
    while True:
        try:
            header, arrays = read_message(requests)
        except EOFError:
            return
        outputs: Tensors = {}
        try:
            fields, outputs = answer(header, arrays)
        except FastServeError as error:
            fields = _failure(error)
        except MemoryError:
            fields = _failure(EnvironmentFailure("The process needs more memory than it may have."))
        write_message(answers, fields, outputs)


def _failure(error: FastServeError) -> dict[str, Any]:
    kinds = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == FastServeError.__module__]
    return {"error": kinds[0], "problem": error.problem, "remedy": error.remedy}


def _limit_memory(count: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (count, count))
