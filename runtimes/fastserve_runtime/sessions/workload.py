"""The seam between measuring and tasks: which calls of a model are timed, and how its samples are run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fastserve_runtime.plugins import PIPELINES

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Session, Tensor, Tensors


@dataclass(frozen=True)
class FirstTokenCall:
    """A call from an empty cache to the first token.

    Attributes:
        prompt_tokens: how many tokens it feeds.
        call: makes it; gets the number of the call, to take another prompt each time.
    """

    prompt_tokens: int
    call: Callable[[int], object]


class Workload(Protocol):
    """What a task does with an opened model and some samples."""

    def run(self, index: int) -> object:
        """Do the call whose latency counts; `index` numbers the calls."""

    def run_all(self) -> tuple[dict[str, Tensor], list[float]]:
        """Run every sample, and return the outputs, samples along the first axis, and the seconds that each took."""

    def first_token(self) -> FirstTokenCall | None:
        """Return the call whose latency is the time to the first token; None where the task generates no text."""


class OpenWorkload(Protocol):
    """What makes a workload; a pipeline's module may offer its own as `open_workload`."""

    def __call__(self, session: Session, inputs: Tensors, timed: int | None = None) -> Workload:
        """Make the workload.

        Args:
            session: the opened model.
            inputs: by name, samples along the first axis.
            timed: the timed calls take the first so many samples in turn; all if left out.
        """


class Samples:
    """Runs a model on single samples of its inputs; each is one call."""

    def __init__(self, session: Session, inputs: Tensors, timed: int | None = None) -> None:
        """Cut the inputs into samples; those that the model does not take are left out. See `OpenWorkload`."""
        import numpy as np

        from fastserve_runtime.sessions.lengths import full_graph
        from fastserve_runtime.sessions.sample_axes import as_call

        self._graph = full_graph(session.graphs)
        self._session = session
        signature = session.graphs[self._graph]
        names = [spec.name for spec in signature.inputs]
        count = len(inputs[names[0]])
        self._rows = [{n: np.ascontiguousarray(inputs[n][i : i + 1]) for n in names} for i in range(count)]
        self._calls = [as_call(row, signature) for row in self._rows]
        self._timed = count if timed is None else max(1, min(timed, count))

    def run(self, index: int) -> dict[str, Tensor]:
        """Run one timed sample at full length, padding and all, and return its outputs; they are taken in turn."""
        return self._session.run(self._calls[index % self._timed], graph=self._graph)

    def run_all(self) -> tuple[dict[str, Tensor], list[float]]:
        """Run every sample at its own length; see `Workload.run_all`."""
        import numpy as np

        from fastserve_runtime.sessions.batching import run_samples

        outputs, seconds = [], []
        for row in self._rows:
            started = time.perf_counter()
            outputs.append(run_samples(self._session, row))
            seconds.append(time.perf_counter() - started)
        return {name: np.concatenate([o[name] for o in outputs]) for name in outputs[0]}, seconds

    def first_token(self) -> None:
        """Return None: a sample is one call."""


def open_workload(task: str, session: Session, inputs: Tensors, timed: int | None = None) -> Workload:
    """Make the workload of a task; see `OpenWorkload`."""
    make: OpenWorkload = getattr(PIPELINES.load(task), "open_workload", Samples)
    return make(session, inputs, timed)


def run_golden(task: str, session: Session, inputs: Tensors) -> dict[str, Tensor]:
    """Run the inputs of a golden as its task runs samples, several in a call where it can."""
    from fastserve_runtime.sessions.batching import run_samples

    make: OpenWorkload | None = getattr(PIPELINES.load(task), "open_workload", None)
    return run_samples(session, inputs) if make is None else make(session, inputs).run_all()[0]
