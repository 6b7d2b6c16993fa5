"""ExecuTorch without PyTorch (package `fastserve-executorch`), on the CPU with XNNPACK."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_runtime.bundle.manifest import Graph, Variant
from fastserve_runtime.bundle.tensor_specs import Dim, Signature, SymbolicDim, TensorSpec
from fastserve_runtime.distributions import module_folder
from fastserve_runtime.errors import BundleError, EnvironmentFailure, UsageError, one_line
from fastserve_runtime.installation import NATIVE_EXECUTORCH
from fastserve_runtime.sessions.engine_logs import native_output_logged
from fastserve_runtime.sessions.named_session import NamedSession
from fastserve_runtime.sessions.session import ModelSource, Placement

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Tensor, Tensors

NAME = "executorch"
FORMAT = "executorch"
FAMILY = "executorch"
INSTALL = NATIVE_EXECUTORCH

_VERSION_FILE = "executorch_version.txt"
_SCALARS = {"int": "int64", "float": "float64", "bool": "bool"}
_logger = logging.getLogger(__name__)


def version() -> str | None:
    """Return the version of the ExecuTorch that the installed `fastserve-executorch` carries."""
    folder = module_folder("fastserve_executorch")
    if folder is None:
        return None
    try:
        return Path(folder, _VERSION_FILE).read_text("utf-8").strip()
    except OSError:
        return None


def import_library() -> Any:
    """Import fastserve-executorch and return it; see `Engine.import_library`."""
    try:
        with native_output_logged(_logger):
            import fastserve_executorch
    except (ImportError, OSError) as error:
        raise EnvironmentFailure(
            f"fastserve-executorch cannot be imported: {error}.", f"Install it: {INSTALL}."
        ) from error
    return fastserve_executorch


def lacking(variant: Variant) -> list[str]:
    """Return the operators that have no kernel and the delegates that are not there; see `Engine`."""
    library = import_library()
    present = {name.partition("::")[2] or name for name in library.available_operators()}
    present.update(library.available_backends())
    return sorted({o.name for o in variant.operators if o.name not in present})


def open_session(model: ModelSource, graphs: Mapping[str, Graph] | None, *, threads: int) -> ExecutorchSession:
    """Load an ExecuTorch program; see `Engine.open_session`. A file is mapped into memory, content is used in place.

    Raises:
        UsageError: other loaded programs use ExecuTorch's pool of threads, which the process has but one of, at
            another size.
    """
    library = import_library()
    try:
        with native_output_logged(_logger):
            program = library.Program(model, threads=threads)
            methods = program.methods  # read from the file at each look
            entries = {n: n for n in methods} if graphs is None else {n: g.entry for n, g in graphs.items()}
            _load_backends(library, {b for e in entries.values() if e in methods for b in methods[e].backends})
            for entry in entries.values():
                program.load(entry)
    except library.BusyError as error:
        raise UsageError(f"ExecuTorch cannot have {threads} threads now: {error}.", "Or ask for 1 thread.") from error
    except (library.ExecutorchError, ValueError) as error:
        raise BundleError(f"ExecuTorch {version()} cannot load the program: {one_line(error)}.") from error
    if graphs is None:
        signatures = {name: _signature(methods[name]) for name in entries}
    else:
        signatures = {name: graph.signature for name, graph in graphs.items()}
    return ExecutorchSession(program, {n: methods[e] for n, e in entries.items()}, signatures, threads)


def _load_backends(library: Any, names: set[str]) -> None:
    """Look up the backends that the package does not carry, such as QNN's, where they are installed."""
    for name in names - set(library.available_backends()):
        try:
            library.load_backend(name)
        except (library.ExecutorchError, OSError, ValueError) as error:
            raise EnvironmentFailure(
                f"The program needs the backend '{name}': {one_line(error)}.", "Install it, or use another variant."
            ) from error


class ExecutorchSession(NamedSession):
    """An ExecuTorch program with its methods; tensors go in the order of the signature.

    Not for several threads at once. Sessions with 1 thread run in the caller's; all others share one pool.
    """

    engine = NAME

    def __init__(self, program: Any, methods: Mapping[str, Any], graphs: Mapping[str, Signature], threads: int) -> None:
        """Take over an opened program.

        Args:
            program: the program.
            methods: by the graph's name, what the program tells of its method.
            graphs: by the graph's name, its signature.
            threads: how many threads one call may use.
        """
        super().__init__(graphs, threads)
        self._program = program
        self._methods = methods
        self._names = {name: [o.name for o in signature.outputs] for name, signature in graphs.items()}
        # A method may take plain numbers beside tensors.
        self._takes_numbers = {n for n, method in methods.items() if any(i.kind in _SCALARS for i in method.inputs)}

    def _placement(self) -> Placement:
        calls = {"kernels": 0}
        for method in self._methods.values():
            for name, count in method.calls.items():
                executor = name if name in method.backends else "kernels"
                calls[executor] = calls.get(executor, 0) + count
        return Placement(calls, "the program's instructions: calls of delegates and of ExecuTorch's own kernels")

    def _execute(self, graph: str, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        outputs = self._program.run(self._methods[graph].name, self._values(graph, inputs))
        return dict(zip(self._names[graph], outputs, strict=True))

    def _bound(self, graph: str, inputs: Tensors, outputs: Tensors) -> Callable[[], None]:
        if graph in self._takes_numbers:
            return super()._bound(graph, inputs, outputs)
        run, entry, read, written = (
            self._program.run,
            self._methods[graph].name,
            list(inputs.values()),
            list(outputs.values()),
        )

        def execute() -> None:
            run(entry, read, written)

        return execute

    def _values(self, graph: str, inputs: dict[str, Tensor]) -> list[Any]:
        values: list[Any] = list(inputs.values())
        if graph in self._takes_numbers:
            infos = self._methods[graph].inputs
            values = [v.item() if i.kind in _SCALARS else v for i, v in zip(infos, values, strict=True)]
        return values

    def _reset_state(self) -> None:
        self._program.reset()

    def _release(self) -> None:
        self._program.close()


def _signature(method: Any) -> Signature:
    return Signature(
        tuple(_tensor(f"input_{i}", info) for i, info in enumerate(method.inputs)),
        tuple(_tensor(f"output_{i}", info) for i, info in enumerate(method.outputs)),
    )


def _tensor(name: str, info: Any) -> TensorSpec:
    if info.kind != "tensor":
        return TensorSpec(name, _SCALARS.get(info.kind, info.kind), ())
    # Which sizes may change is not recorded in the file, only the greatest of each.
    dims: list[Dim] = [SymbolicDim(f"{name}_{i}", 0, n) if info.dynamic else n for i, n in enumerate(info.shape)]
    return TensorSpec(name, info.dtype, tuple(dims))
