"""ExecuTorch through its official Python runtime, which brings PyTorch with it.

Sessions of this engine are marked by `brings_pytorch`: their memory says nothing about a device.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_runtime.bundle.manifest import Graph, Variant
from fastserve_runtime.bundle.tensor_specs import Signature, TensorSpec
from fastserve_runtime.distributions import installed_version
from fastserve_runtime.errors import BundleError, EnvironmentFailure
from fastserve_runtime.sessions.engine_logs import native_output_logged
from fastserve_runtime.sessions.named_session import NamedSession
from fastserve_runtime.sessions.session import ModelSource, Placement

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Tensor

NAME = "executorch-official"
FORMAT = "executorch"
FAMILY = "executorch"
INSTALL = "pip install executorch torch"

_MAGIC = (b"ET12", b"ET11", b"ET10")
_DTYPES = {
    0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 7: "float64", 11: "bool",
}  # fmt: skip
"""c10::ScalarType → numpy."""
_logger = logging.getLogger(__name__)


def version() -> str | None:
    """Return the installed version of ExecuTorch; None where torch is missing, without which it cannot run."""
    return installed_version("executorch", "executorch") if find_spec("torch") else None


def import_library() -> None:
    """Import ExecuTorch and with it PyTorch; see `Engine.import_library`."""
    try:
        with native_output_logged(_logger):
            import executorch.kernels.quantized
            import executorch.runtime  # noqa: F401
    except (ImportError, OSError) as error:
        raise EnvironmentFailure(f"ExecuTorch cannot be imported: {error}.", f"Install it: {INSTALL}.") from error


def lacking(variant: Variant) -> list[str]:  # noqa: ARG001 -- the same for every engine
    """Return none: the runtime says when it loads a method, and is too slow to import for asking."""
    return []


def open_session(model: ModelSource, graphs: Mapping[str, Graph] | None, *, threads: int) -> ExecutorchOfficialSession:
    """Load an ExecuTorch program; see `Engine.open_session`."""
    content = model.read_bytes() if isinstance(model, Path) else bytes(model)
    if content[4:8] not in _MAGIC:
        raise BundleError("The file is not an ExecuTorch program: it lacks the identifier 'ET12'.")
    import_library()
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime, Verification

    def load() -> tuple[Any, dict[str, Any]]:
        program = Runtime.get().load_program(content, verification=Verification.InternalConsistency)
        own = {n: n for n in sorted(program.method_names)}
        names = own if graphs is None else {n: g.entry for n, g in graphs.items()}
        return program, {name: program.load_method(entry) for name, entry in names.items()}

    try:
        with native_output_logged(_logger):
            portable_lib._unsafe_reset_threadpool(threads)
            loaded = load()
            if graphs is None:
                signatures = {name: _signature(method.metadata) for name, method in loaded[1].items()}
            else:
                signatures = {name: graph.signature for name, graph in graphs.items()}
    except (RuntimeError, ValueError, LookupError) as error:
        raise BundleError(f"ExecuTorch {version()} cannot load the program: {str(error).strip()}.") from error
    return ExecutorchOfficialSession(load, loaded, signatures, threads)


class ExecutorchOfficialSession(NamedSession):
    """An ExecuTorch program with its methods; tensors go through PyTorch, in the order of the signature.

    Not for several threads at once. The thread count is one for the whole process: the last session opened sets it.
    """

    engine = NAME

    def __init__(
        self,
        load: Callable[[], tuple[Any, dict[str, Any]]],
        loaded: tuple[Any, dict[str, Any]],
        graphs: Mapping[str, Signature],
        threads: int,
    ) -> None:
        super().__init__(graphs, threads)
        self._load = load
        self._program, self._methods = loaded

    def _placement(self) -> Placement:
        return Placement(None, "the official Python runtime does not tell")

    def _execute(self, graph: str, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        import torch

        # torch.from_numpy refuses read-only memory and would warn about it.
        arrays = [value if value.flags.writeable else value.copy() for value in inputs.values()]
        outputs = self._methods[graph].execute([torch.from_numpy(a) for a in arrays])
        names = [spec.name for spec in self._graphs[graph].outputs]
        return {name: output.numpy().copy() for name, output in zip(names, outputs, strict=True)}

    def _reset_state(self) -> None:
        # A program hands out the same method again, state and all: only loading it anew resets it.
        self._program, self._methods = self._load()

    def _release(self) -> None:
        self._methods = {}
        self._program = None


def _signature(metadata: Any) -> Signature:
    inputs = [metadata.input_tensor_meta(i) for i in range(metadata.num_inputs())]
    outputs = [metadata.output_tensor_meta(i) for i in range(metadata.num_outputs())]
    return Signature(
        tuple(_tensor(f"input_{i}", info) for i, info in enumerate(inputs)),
        tuple(_tensor(f"output_{i}", info) for i, info in enumerate(outputs)),
    )


def _tensor(name: str, info: Any) -> TensorSpec:
    return TensorSpec(name, _DTYPES.get(int(info.dtype()), "unknown"), tuple(int(d) for d in info.sizes()))
