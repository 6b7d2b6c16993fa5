"""The seam between pipelines and engines: an opened model that runs named tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from fastserve_runtime.bundle.manifest import Graph, Variant
from fastserve_runtime.bundle.tensor_specs import Signature

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


class Binding(Protocol):
    """Buffers that a graph reads from and writes to, call after call. `Session.bind` makes it.

    Attributes:
        inputs: write the next call's inputs into these arrays.
        outputs: hold the last call's outputs; the next call overwrites them.
    """

    inputs: Tensors
    outputs: Tensors

    def run(self) -> Tensors:
        """Run the graph on what is in `inputs` and return `outputs`.

        Raises:
            InputError: an id is not in the model's table.
            UsageError: the session is closed, or busy in another thread.
            EnvironmentFailure: the engine failed.
        """

    def replace(self, inputs: Tensors) -> None:
        """Read some inputs from other arrays from now on, such as longer ones; the others stay.

        Args:
            inputs: arrays of exactly the graph's dtypes, contiguous.

        Raises:
            InputError: an array does not fit.
            UsageError: the session is closed, or busy in another thread.
        """


class Session(Protocol):
    """An opened model. Use it in a `with` block, or call `close`.

    Attributes:
        engine: the name of the engine that runs it.
        threads: how many threads one call may use.
        model_id: what tells a bundle's variant from all others; empty for a bare file.
        id_rows: by graph, how many rows the table has that its `input_ids` are looked up in, where that is known: other
            ids are refused. What a decoder scores tells as much; else it is a bundle's manifest.
        is_concurrent: whether several threads may call `run` at the same time; where not, a second one gets a
            UsageError rather than wrong numbers.
    """

    engine: str
    threads: int
    model_id: str
    id_rows: Mapping[str, int]
    is_concurrent: bool

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
            InputError: an input is missing, unknown, of a wrong dtype, rank or shape, or has an unknown id.
            UsageError: the session is closed, or busy in another thread and not for several at once.
            EnvironmentFailure: the engine failed.
        """

    def bind(
        self, inputs: Tensors | None = None, outputs: Tensors | None = None, *, graph: str | None = None
    ) -> Binding:
        """Set buffers that are reused between calls.

        Args:
            inputs: arrays to read from, of exactly the graph's dtypes, contiguous. Those left out are made, which
                needs a fixed shape.
            outputs: arrays to write to; likewise. A symbolic size that an input has too is taken from there.
            graph: which graph; may be left out where there is only one.

        Raises:
            InputError: an array does not fit, or one must be given because its shape is not fixed.
        """

    def borrow(
        self, shapes: Mapping[str, tuple[int, ...]], give_back: Callable[[], None], *, graph: str | None = None
    ) -> Binding:
        """Get buffers that the engine itself works on, where it has such, so that nothing is copied.

        Their contents are not set. They are good until the session is used in another way, even to borrow others.

        Args:
            shapes: of inputs, at least of those that the graph leaves open.
            give_back: called before the buffers are needed for something else; save from them what must last.
            graph: which graph; may be left out where there is only one.

        Raises:
            InputError: a shape does not fit.
            UsageError: the session is closed, or busy in another thread.
        """

    def reset_state(self) -> None:
        """Set what the model keeps between calls (caches, counters) back to its first values."""

    def warm_up(self, *, calls: int = 1) -> None:
        """Run every graph on zeros, so that the first real call is as quick as the next; state is reset after.

        A symbolic dimension is run at its smallest size, at least 1.
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
    """What a module in `engines` offers.

    Attributes:
        NAME: the engine's name.
        FORMAT: the format that it executes.
        FAMILY: whose version numbers `version` gives: a variant's `requires` names a family and its least version.
            Mostly the same as NAME.
        INSTALL: the command that installs it.

    A module may also offer NEEDS: the instruction sets without which its library ends with SIGILL, by architecture
    (`x86_64`, `aarch64`), where these are more than `fastserve_runtime.measurement.instruction_sets.NEEDED_BY_NUMPY`.
    """

    NAME: str
    FORMAT: str
    FAMILY: str
    INSTALL: str

    def version(self) -> str | None:
        """Return the installed version without importing the engine, or None."""

    def import_library(self) -> None:
        """Import the engine's library ahead of `open_session`, so that its own memory can be told from a model's.

        Raises:
            EnvironmentFailure: it cannot be imported.
        """

    def lacking(self, variant: Variant) -> list[str]:
        """Return what a variant needs and the installed engine surely lacks: operators with their versions, or words.

        Raises:
            EnvironmentFailure: the engine must be asked and cannot be imported.
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
            UsageError: the engine cannot have that many threads now.
        """
