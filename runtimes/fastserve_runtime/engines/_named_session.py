"""What all sessions share: choosing the graph, checking inputs, refusing use after closing."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from fastserve_runtime.errors import EnvironmentFailure, FastServeError, UsageError
from fastserve_runtime.manifest import Signature
from fastserve_runtime.session import Placement
from fastserve_runtime.tensors import checked_inputs, select_graph

if TYPE_CHECKING:
    from fastserve_runtime.session import Tensor, Tensors


class NamedSession:
    """Base of the engines' sessions. A subclass gives `_execute` and `_release`, and `_placement` where it knows it."""

    engine = ""

    def __init__(self, graphs: Mapping[str, Signature], threads: int) -> None:
        self._graphs = graphs
        self._closed = False
        self.threads = threads

    @property
    def graphs(self) -> Mapping[str, Signature]:
        """The model's entry points."""
        return self._graphs

    def run(self, inputs: Tensors, *, graph: str | None = None) -> dict[str, Tensor]:
        """Run one graph; see `Session.run`."""
        self._check_open()
        name = select_graph(self._graphs, graph)
        tensors = checked_inputs(self._graphs[name], inputs)
        try:
            return self._execute(name, tensors)
        except FastServeError:
            raise
        except Exception as error:  # ONNX Runtime's exception classes share no base but Exception
            raise EnvironmentFailure(f"{self.engine} failed while running: {error}") from error

    def close(self) -> None:
        """Let go of the model."""
        if not self._closed:
            self._closed = True
            self._release()

    def placement(self) -> Placement:
        """Tell where operators run; see `Session.placement`."""
        self._check_open()
        return self._placement()

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("The session is closed.", "Open the model again.")

    def _placement(self) -> Placement:
        return Placement(None, f"{self.engine} does not tell")

    def _execute(self, graph: str, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        raise NotImplementedError

    def _release(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> NamedSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
