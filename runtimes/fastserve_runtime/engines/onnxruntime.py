"""ONNX Runtime on the CPU (https://onnxruntime.ai/docs/api/python/)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_runtime.bundle.manifest import Graph, Variant
from fastserve_runtime.bundle.signatures import check_stated
from fastserve_runtime.bundle.tensor_specs import UNBOUNDED, Dim, Signature, SymbolicDim, TensorSpec
from fastserve_runtime.distributions import installed_version
from fastserve_runtime.errors import BundleError, EnvironmentFailure, one_line
from fastserve_runtime.sessions.named_session import NamedSession, RebindableCall
from fastserve_runtime.sessions.session import ModelSource, Placement

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Tensor, Tensors

NAME = "onnxruntime"
FORMAT = "onnx"
FAMILY = "onnxruntime"
INSTALL = "pip install onnxruntime"

_PROVIDER = "CPUExecutionProvider"
_DTYPES = {
    "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64", "tensor(bool)": "bool",
    "tensor(int64)": "int64", "tensor(int32)": "int32", "tensor(int16)": "int16", "tensor(int8)": "int8",
    "tensor(uint64)": "uint64", "tensor(uint32)": "uint32", "tensor(uint16)": "uint16", "tensor(uint8)": "uint8",
}  # fmt: skip
_logger = logging.getLogger(__name__)


def version() -> str | None:
    """Return the installed version of ONNX Runtime."""
    return installed_version("onnxruntime", "onnxruntime")


def import_library() -> Any:
    """Import ONNX Runtime and return it; see `Engine.import_library`."""
    try:
        import onnxruntime
    except ImportError as error:
        raise EnvironmentFailure(f"ONNX Runtime cannot be imported: {error}.", f"Install it: {INSTALL}.") from error
    return onnxruntime


def lacking(variant: Variant) -> list[str]:  # noqa: ARG001 -- the same for every engine
    """Return none: a least version of ONNX Runtime in the manifest stands for the operator set."""
    return []


def open_session(model: ModelSource, graphs: Mapping[str, Graph] | None, *, threads: int) -> OnnxRuntimeSession:
    """Load an ONNX model; see `Engine.open_session`."""
    onnxruntime = import_library()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 1 if _logger.isEnabledFor(logging.DEBUG) else 4
    source = str(model) if isinstance(model, Path) else bytes(model)
    try:
        session = onnxruntime.InferenceSession(source, options, providers=[_PROVIDER])
    except Exception as error:  # the binding's exception classes share no base but Exception
        raise BundleError(f"ONNX Runtime {version()} cannot load the model: {one_line(error)}.") from error
    own = _signature(session)
    signatures = {"main": own} if graphs is None else {n: g.signature for n, g in graphs.items()}
    for stated in signatures.values():
        check_stated(stated, own)
    return OnnxRuntimeSession(session, signatures, threads)


class OnnxRuntimeSession(NamedSession):
    """An ONNX model with its one graph. May be used from several threads at once, each with a binding of its own."""

    engine = NAME
    is_concurrent = True

    def __init__(self, session: Any, graphs: Mapping[str, Signature], threads: int) -> None:
        super().__init__(graphs, threads)
        self._session = session
        self._names = {name: [o.name for o in signature.outputs] for name, signature in graphs.items()}

    def _placement(self) -> Placement:
        # Only the CPU provider is registered, so every operator runs there; ONNX Runtime does not count them.
        return Placement(None, f"registered execution providers: {', '.join(self._session.get_providers())}")

    def _execute(self, graph: str, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        names = self._names[graph]
        return dict(zip(names, self._session.run(names, inputs), strict=True))

    def _bound(self, graph: str, inputs: Tensors, outputs: Tensors) -> Callable[[], None]:  # noqa: ARG002
        return _BoundCall(self._session, inputs, outputs)

    def _release(self) -> None:
        self._session = None


class _BoundCall(RebindableCall):
    """Runs a session on arrays by their addresses, which hold because the arrays live as long as the binding."""

    def __init__(self, session: Any, inputs: Tensors, outputs: Tensors) -> None:
        self._session = session
        self._binding = session.io_binding()
        self.read(inputs)
        for name, value in outputs.items():
            self._binding.bind_output(name, "cpu", 0, value.dtype.type, value.shape, value.ctypes.data)

    def read(self, inputs: Tensors) -> None:
        for name, value in inputs.items():
            self._binding.bind_input(name, "cpu", 0, value.dtype.type, value.shape, value.ctypes.data)

    def __call__(self) -> None:
        self._session.run_with_iobinding(self._binding)


def _signature(session: Any) -> Signature:
    return Signature(tuple(_tensor(t) for t in session.get_inputs()), tuple(_tensor(t) for t in session.get_outputs()))


def _tensor(argument: Any) -> TensorSpec:
    dims = tuple(_dim(d, f"{argument.name}_{i}") for i, d in enumerate(argument.shape))
    return TensorSpec(argument.name, _DTYPES.get(argument.type, argument.type), dims)


def _dim(value: Any, name: str) -> Dim:
    return value if isinstance(value, int) else SymbolicDim(str(value or name), 0, UNBOUNDED)
