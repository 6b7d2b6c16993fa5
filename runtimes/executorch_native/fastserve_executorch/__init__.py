"""ExecuTorch without PyTorch: opens and runs .pte programs with numpy arrays.

ExecuTorch's log goes to the logger ``fastserve_executorch`` of :mod:`logging`, which is quiet unless configured.
"""

from fastserve_executorch._backends import load_backend
from fastserve_executorch._errors import BusyError, ExecutorchError
from fastserve_executorch._native import (
    Program,
    __executorch_version__,
    __version__,
    available_backends,
    available_operators,
    get_threads,
    set_threads,
)
from fastserve_executorch._types import Intermediate, MethodInfo, ProfileEvent, ValueInfo

__all__ = [
    "BusyError",
    "ExecutorchError",
    "Intermediate",
    "MethodInfo",
    "ProfileEvent",
    "Program",
    "ValueInfo",
    "__executorch_version__",
    "__version__",
    "available_backends",
    "available_operators",
    "get_threads",
    "load_backend",
    "set_threads",
]
