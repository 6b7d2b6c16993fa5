"""ExecuTorch's official Python runtime with its QNN backend, and Qualcomm's libraries from a package of theirs.

The libraries simulate the Hexagon NPU on x86. Programs hold what Qualcomm's compiler made for one chip.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fastserve_device_tests.executors.executorch_interpreter import SOURCE, placed_calls
from fastserve_device_tests.executors.executorch_program import Method, read_program
from fastserve_runtime.bundle.manifest import Graph, Variant
from fastserve_runtime.distributions import installed_version
from fastserve_runtime.engines import executorch_official as official
from fastserve_runtime.errors import BundleError, EnvironmentFailure, UsageError
from fastserve_runtime.sessions.named_session import NamedSession
from fastserve_runtime.sessions.session import ModelSource, Placement

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Session, Tensor

NAME = "ExecuTorch on Qualcomm's HTP"
FORMAT = "executorch"
FAMILY = official.FAMILY
BACKEND = "QnnBackend"
PACKAGE = "onnxruntime-qnn"
VERSION = "2.5.0"
"""Of that package. The libraries of 2.3, 2.4, 2.6 and 2.7 fail when ExecuTorch 1.5.1 sets up the platform."""
INSTALL = f"pip install --no-deps {PACKAGE}=={VERSION}"


def version() -> str | None:
    """Return the installed version of ExecuTorch."""
    return official.version()


def import_library() -> None:
    """Import ExecuTorch; see `Engine.import_library`.

    Raises:
        EnvironmentFailure: it cannot be imported, or Qualcomm's libraries are of a version that it does not work with.
    """
    found = installed_version(PACKAGE, "onnxruntime_qnn")
    if found != VERSION:
        raise EnvironmentFailure(f"{NAME} works with {PACKAGE} {VERSION}; {found} is installed.", INSTALL)
    official.import_library()


def lacking(variant: Variant) -> list[str]:
    """Return none: what was compiled has what it needs."""
    return official.lacking(variant)


def open_session(model: ModelSource, graphs: Mapping[str, Graph] | None, *, threads: int) -> QnnSession:
    """Load an ExecuTorch program for QNN; see `Engine.open_session`. Its graphs must be given."""
    if graphs is None:
        raise UsageError(f"{NAME} does not open bare files.", "Open a bundle instead.")
    methods = read_program(model.read_bytes() if isinstance(model, Path) else bytes(model))
    others = sorted({d.backend for m in methods.values() for d in m.delegates} - {BACKEND})
    if others:
        raise BundleError(f"The program is made for {', '.join(others)}, not for {BACKEND}.", "Export it again.")
    import_library()
    session = official.open_session(model, graphs, threads=threads)
    return QnnSession(session, [methods[g.entry] for g in graphs.values() if g.entry in methods], threads)


class QnnSession(NamedSession):
    """A session of the official runtime, which does not tell where operators run; the program does."""

    engine = NAME

    def __init__(self, session: Session, methods: Sequence[Method], threads: int) -> None:
        super().__init__(session.graphs, threads)
        self._session = session
        self._methods = methods

    def _execute(self, graph: str, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return self._session.run(inputs, graph=graph)

    def _placement(self) -> Placement:
        return Placement(dict(sum(map(placed_calls, self._methods), Counter())), SOURCE)

    def _reset_state(self) -> None:
        self._session.reset_state()

    def _release(self) -> None:
        self._session.close()
