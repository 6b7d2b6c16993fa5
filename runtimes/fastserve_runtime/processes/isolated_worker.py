"""The process behind `isolation`: opens models and runs them for the process at the other end of its pipes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_runtime.bundle.signatures import signature_document
from fastserve_runtime.engines import ENGINES
from fastserve_runtime.errors import EnvironmentFailure
from fastserve_runtime.processes.answering import answer_requests

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Session, Tensors


class Worker:
    """Holds one model at a time; a new `open` closes the one before."""

    def __init__(self) -> None:
        self._session: Session | None = None

    def answer(self, request: Mapping[str, Any], arrays: Tensors) -> tuple[dict[str, Any], Tensors]:
        """Do what a request asks.

        Raises:
            FastServeError: the engine refuses the model, or the inputs.
        """
        try:
            return self._answer(request, arrays)
        except MemoryError as error:
            raise EnvironmentFailure("The model needs more memory than its process may have.") from error

    def _answer(self, request: Mapping[str, Any], arrays: Tensors) -> tuple[dict[str, Any], Tensors]:
        if request["ask"] == "open":
            return self._open(request), {}
        assert self._session is not None
        if request["ask"] == "run":
            return {}, self._session.run(arrays, graph=request["graph"])
        if request["ask"] == "placement":
            placement = self._session.placement()
            operators = placement.operators
            return {"operators": None if operators is None else dict(operators), "source": placement.source}, {}
        self._session.reset_state()
        return {}, {}

    def _open(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if self._session is not None:
            self._session.close()
            self._session = None
        engine = ENGINES.load(request["engine"])
        session: Session = engine.open_session(Path(request["file"]), None, threads=request["threads"])
        self._session = session
        graphs = {name: signature_document(signature) for name, signature in session.graphs.items()}
        return {"engine": session.engine, "graphs": graphs}


if __name__ == "__main__":
    sys.exit(answer_requests(Worker().answer))
