"""What all sessions share: choosing the graph, checking inputs, buffers, refusing use after closing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from fastserve_runtime.bundle.axes import named
from fastserve_runtime.bundle.tensor_specs import Signature
from fastserve_runtime.closing import ClosedAtEnd
from fastserve_runtime.errors import EnvironmentFailure, FastServeError, UsageError
from fastserve_runtime.sessions.session import Placement
from fastserve_runtime.sessions.tensors import (
    bound_buffers,
    check_buffers,
    checked_inputs,
    select_graph,
    zero_buffers,
    zero_inputs,
)
from fastserve_runtime.sessions.token_ids import check_input_ids, id_rows

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Binding, Tensor, Tensors


class NamedSession(ClosedAtEnd):
    """Base of the engines' sessions.

    A subclass gives `_execute` and `_release`, and `_placement`, `_bound` and `_reset_state` where its engine can do
    more than what stands here. `is_concurrent` says whether its engine runs one model in several threads at once.
    """

    engine = ""
    model_id = ""
    is_concurrent = False

    def __init__(self, graphs: Mapping[str, Signature], threads: int) -> None:
        self._graphs = {name: named(signature) for name, signature in graphs.items()}
        self.id_rows: Mapping[str, int] = id_rows(self._graphs)
        self._closed = False
        self._turn = threading.Lock()
        self.threads = threads

    @property
    def graphs(self) -> Mapping[str, Signature]:
        """The model's entry points."""
        return self._graphs

    def run(self, inputs: Tensors, *, graph: str | None = None) -> dict[str, Tensor]:
        """Run one graph; see `Session.run`."""
        name = select_graph(self._graphs, graph)
        tensors = checked_inputs(self._graphs[name], inputs)
        self.check_values(name, tensors)
        with self._in_use():
            return self._execute(name, tensors)

    def bind(
        self, inputs: Tensors | None = None, outputs: Tensors | None = None, *, graph: str | None = None
    ) -> BufferBinding:
        """Set buffers that are reused between calls; see `Session.bind`."""
        name = select_graph(self._graphs, graph)
        read, written = bound_buffers(self._graphs[name], inputs or {}, outputs or {})
        with self._in_use():
            return BufferBinding(self, name, read, written)

    def borrow(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        give_back: Callable[[], None],  # noqa: ARG002 -- these buffers are nobody else's
        *,
        graph: str | None = None,
    ) -> Binding:
        """Get buffers of the engine; see `Session.borrow`. Here they are new arrays, which are bound."""
        return self.bind(zero_buffers(self._graphs[select_graph(self._graphs, graph)], shapes), graph=graph)

    def reset_state(self) -> None:
        """Set what the model keeps between calls back; see `Session.reset_state`."""
        with self._in_use():
            self._reset_state()

    def warm_up(self, *, calls: int = 1) -> None:
        """Run every graph on zeros; see `Session.warm_up`."""
        for name, signature in self._graphs.items():
            inputs = zero_inputs(signature)
            for _ in range(calls):
                self.run(inputs, graph=name)
        self.reset_state()

    def close(self) -> None:
        """Let go of the model."""
        if self._closed:
            return
        with self._in_use():
            self._closed = True
            self._release()

    def placement(self) -> Placement:
        """Tell where operators run; see `Session.placement`."""
        with self._in_use():
            return self._placement()

    def check_values(self, graph: str, inputs: Tensors) -> None:
        """Refuse values that an engine would look up beyond what there is.

        Raises:
            InputError: naming the value.
        """
        rows = self.id_rows.get(graph)
        if rows is not None:
            check_input_ids(inputs, rows)

    def _in_use(self) -> _Turn:
        return _Turn(self)

    def _placement(self) -> Placement:
        return Placement(None, f"{self.engine} does not tell")

    def _bound(self, graph: str, inputs: Tensors, outputs: Tensors) -> Callable[[], None]:
        """Return what runs the graph from and into those arrays; here by copying the outputs."""
        import numpy as np

        read = dict(inputs)

        def run() -> None:
            for name, value in self._execute(graph, read).items():
                np.copyto(outputs[name], value)

        return run

    def _reset_state(self) -> None:
        """Nothing to do for an engine whose models keep nothing between calls."""

    def _execute(self, graph: str, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        raise NotImplementedError

    def _release(self) -> None:
        raise NotImplementedError


class _Turn:
    """Holds a session for one call; what the engine raises meanwhile becomes an EnvironmentFailure.

    A class, since a generator costs every call a microsecond more.
    """

    __slots__ = ("_session",)

    def __init__(self, session: NamedSession) -> None:
        self._session = session

    def __enter__(self) -> None:
        session = self._session
        if session._closed:
            raise UsageError("The session is closed.", "Open the model again.")
        if not session.is_concurrent and not session._turn.acquire(blocking=False):
            raise UsageError(
                f"A session of {session.engine} was called from two threads at once.", "Open one session a thread."
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._session.is_concurrent:
            self._session._turn.release()
        # ONNX Runtime's exception classes share no base but Exception.
        if isinstance(error, Exception) and not isinstance(error, FastServeError):
            raise EnvironmentFailure(f"{self._session.engine} failed while running: {error}") from error


class RebindableCall:
    """A call that `NamedSession._bound` returns which can read some inputs from other arrays, and keep the others."""

    def read(self, inputs: Tensors) -> None:
        """Read these inputs from these arrays."""
        raise NotImplementedError

    def __call__(self) -> None:
        """Run the graph."""
        raise NotImplementedError


class BufferBinding:
    """Buffers of one graph of a session; see `Binding`."""

    def __init__(
        self, session: NamedSession, graph: str, inputs: dict[str, Tensor], outputs: dict[str, Tensor]
    ) -> None:
        """Bind; the session must be in use."""
        self.inputs: Tensors = inputs
        self.outputs: Tensors = outputs
        self._session = session
        self._graph = graph
        self._execute = session._bound(graph, inputs, outputs)

    def run(self) -> Tensors:
        """Run on what is in `inputs` and return `outputs`; see `Binding.run`."""
        self._session.check_values(self._graph, self.inputs)
        with self._session._in_use():
            self._execute()
        return self.outputs

    def replace(self, inputs: Tensors) -> None:
        """Read some inputs from other arrays; see `Binding.replace`."""
        session = self._session
        check_buffers(session.graphs[self._graph], inputs)
        with session._in_use():
            self.inputs = {**self.inputs, **inputs}
            if isinstance(self._execute, RebindableCall):
                self._execute.read(inputs)
            else:
                self._execute = session._bound(self._graph, self.inputs, self.outputs)
