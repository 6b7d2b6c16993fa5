"""The process behind `isolation`: opens models, runs and verifies them for the process at the other end of its pipes.

    python -m fastserve_runtime.processes.isolated_worker [--memory=BYTES]

What native code prints goes to standard error, never between the messages.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from fastserve_runtime.bundle.manifest import signature_document
from fastserve_runtime.engines import ENGINES
from fastserve_runtime.errors import EXIT_OK, EnvironmentFailure, FastServeError
from fastserve_runtime.processes.framing import read_message, write_message
from fastserve_runtime.processes.lifeline import end_with_parent

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Session, Tensors


def main(arguments: list[str]) -> int:
    """Answer requests until the other end closes."""
    end_with_parent()
    for argument in arguments:
        _limit_memory(int(argument.removeprefix("--memory=")))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, answers)
    return EXIT_OK


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer the requests of one stream on the other; a new `open` closes the model before."""
    session: Session | None = None
    while True:
        try:
            header, arrays = read_message(requests)
        except EOFError:
            return
        outputs: Tensors = {}
        try:
            if header["ask"] == "open":
                if session is not None:
                    session.close()
                    session = None
                session, answer = _open(header)
            elif header["ask"] == "import":
                ENGINES.load(header["engine"]).import_library()
                answer = {}
            elif header["ask"] == "verify":
                answer = {"problem": _wrong_golden(header)}
            else:
                assert session is not None
                answer, outputs = _answer(session, header, arrays)
        except FastServeError as error:
            answer = {"error": type(error).__name__, "problem": error.problem, "remedy": error.remedy}
        except MemoryError:
            failure = EnvironmentFailure("The model needs more memory than its process may have.")
            answer = {"error": type(failure).__name__, "problem": failure.problem, "remedy": failure.remedy}
        write_message(answers, answer, outputs)


def _open(header: dict[str, Any]) -> tuple[Session, dict[str, Any]]:
    engine = ENGINES.load(header["engine"])
    session: Session = engine.open_session(Path(header["file"]), None, threads=header["threads"])
    graphs = {name: signature_document(signature) for name, signature in session.graphs.items()}
    return session, {"engine": session.engine, "graphs": graphs}


def _wrong_golden(header: dict[str, Any]) -> str:
    """Return what is wrong with a variant's golden on an engine, or why it was not run; empty where it is right."""
    from fastserve_runtime.conformance.verification import exit_code, reasons, verify

    verification = verify(header["bundle"], variant=header["variant"], engine=header["engine"])
    is_right = exit_code(verification.verdicts) == EXIT_OK
    return "" if is_right else reasons(verification.failures or verification.verdicts)


def _answer(session: Session, header: dict[str, Any], arrays: Tensors) -> tuple[dict[str, Any], Tensors]:
    if header["ask"] == "run":
        return {}, session.run(arrays, graph=header["graph"])
    if header["ask"] == "placement":
        placement = session.placement()
        operators = placement.operators
        return {"operators": None if operators is None else dict(operators), "source": placement.source}, {}
    session.reset_state()
    return {}, {}


def _limit_memory(count: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (count, count))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
