"""The seam between pipelines and engines: an opened model that runs named tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from fastserve_runtime.manifest import Graph, Signature

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Tensor = NDArray[np.generic]
    Tensors = Mapping[str, Tensor]

ModelSource = Path | memoryview
"""A model file on disk, or its content."""


@dataclass(frozen=True)
class Placement:
    """Where operators ran, as far as the engine tells.

    Attributes:
        operators: backend (`XNNPACK`, `CPUExecutionProvider`, …) → number of operators that it executes; None where
            the engine does not tell.
        source: how this is known, in a few words.
    """

    operators: Mapping[str, int] | None
    source: str


class Session(Protocol):
    """An opened model. Use it in a `with` block, or call `close`."""

    engine: str
    threads: int

    @property
    def graphs(self) -> Mapping[str, Signature]:
        """The model's entry points with their named inputs and outputs."""

    def run(self, inputs: Tensors, *, graph: str | None = None) -> dict[str, Tensor]:
        """Run one graph.

        Args:
            inputs: every input of the graph by name. A dtype that the graph does not take is converted where no value
                changes, else refused.
            graph: which graph; may be left out where there is only one.

        Returns:
            Every output by name, in memory of its own.

        Raises:
            InputError: an input is missing, unknown, or of the wrong dtype, rank or shape.
            EnvironmentFailure: the engine failed.
        """

    def placement(self) -> Placement:
        """Tell which backend executes how many operators."""

    def close(self) -> None:
        """Let go of the model. The session cannot be used afterwards."""

    def __enter__(self) -> Session: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Engine(Protocol):
    """What a module in `engines` offers."""

    NAME: str
    FORMAT: str
    INSTALL: str

    def version(self) -> str | None:
        """Return the installed version without importing the engine, or None."""

    def import_library(self) -> None:
        """Import the engine's library ahead of `open_session`, so that its own memory can be told from a model's.

        Raises:
            EnvironmentFailure: it cannot be imported.
        """

    def open_session(self, model: ModelSource, graphs: Mapping[str, Graph] | None, *, threads: int) -> Session:
        """Load a model.

        Args:
            model: the file, or its content.
            graphs: the entry points as the manifest describes them; None for a bare file, whose own names are used.
            threads: how many threads one call may use.

        Raises:
            BundleError: the engine refuses the model.
            EnvironmentFailure: the engine cannot be imported or failed.
        """
