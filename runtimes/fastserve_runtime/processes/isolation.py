"""Models in a process of their own: what an engine does to itself there, it does not do to the caller.

`open_model(..., isolate=True)` comes here. A file that is damaged, or from a stranger, may crash an engine, hang it, or
make it ask for all memory; the child process ends then, and the caller gets an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_runtime.bundle.signatures import parse_signature
from fastserve_runtime.errors import BundleError, EnvironmentFailure, FastServeError
from fastserve_runtime.parsing import Fields
from fastserve_runtime.processes.child import Child, ChildEnded, Program
from fastserve_runtime.processes.limits import Limits
from fastserve_runtime.sessions.named_session import NamedSession
from fastserve_runtime.sessions.session import Placement

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Tensor, Tensors

_WORKER = "fastserve_runtime.processes.isolated_worker"


def engine_child(limits: Limits | None = None, *, debug: bool = False) -> Child:
    """Start a process with the runtime alone that opens a model, and another after it, and runs it on request."""
    return Child(Program(_WORKER), limits, debug=debug)


class IsolatedSession(NamedSession):
    """A model that is open in a process of its own. One thread at a time; every call copies its tensors twice."""

    def __init__(self, process: Child, opened: Mapping[str, Any], threads: int) -> None:
        graphs = {name: parse_signature(Fields(value, name)) for name, value in opened["graphs"].items()}
        super().__init__(graphs, threads)
        self.engine = opened["engine"]
        self._process = process

    def _placement(self) -> Placement:
        answer = self._ask({"ask": "placement"})[0]
        return Placement(answer["operators"], answer["source"])

    def _execute(self, graph: str, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return self._ask({"ask": "run", "graph": graph}, inputs)[1]

    def _reset_state(self) -> None:
        self._ask({"ask": "reset_state"})

    def _release(self) -> None:
        self._process.close()

    def _ask(
        self, header: Mapping[str, Any], arrays: Tensors | None = None
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        try:
            return self._process.ask(header, arrays)
        except ChildEnded as ended:
            raise EnvironmentFailure(
                f"The process of {self.engine} {ended.how} while running the model.", "Open the model again."
            ) from ended


def open_isolated(file: Path, engine: str, *, threads: int, limits: Limits | None = None) -> IsolatedSession:
    """Open a bare model file in a process of its own.

    Args:
        file: the model.
        engine: the engine's name.
        threads: how many threads one call may use.
        limits: what the process may use.

    Raises:
        BundleError: the engine refuses the model, or crashed or hung on it.
        EnvironmentFailure: the engine cannot be imported.
    """
    process = engine_child(limits)
    try:
        opened = process.ask(open_request(file, engine, threads=threads))[0]
    except ChildEnded as ended:
        process.close()
        raise BundleError(
            f"The process of {engine} {ended.how} while loading '{file}'.",
            "The file is probably damaged: export again.",
        ) from ended
    except FastServeError:
        process.close()
        raise
    return IsolatedSession(process, opened, threads)


def open_request(file: Path, engine: str, *, threads: int = 1) -> dict[str, Any]:
    """Return the request that opens a model in an `engine_child`."""
    return {"ask": "open", "file": str(file.absolute()), "engine": engine, "threads": threads}
