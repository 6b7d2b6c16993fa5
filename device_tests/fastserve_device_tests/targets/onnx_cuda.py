"""NVIDIA's GPUs by ONNX Runtime's CUDA execution provider, on a machine that has one.

It lives in an environment of its own (`scripts/setup_cuda.sh`), since `onnxruntime-gpu` takes the place of the
`onnxruntime` that FastServe is tested with.
"""

from __future__ import annotations

from fastserve_device_tests.executors import onnx_cuda
from fastserve_device_tests.needs import Needs, first_that_exists, separate_environment, set_up_folder
from fastserve_runtime.bundle.manifest import Variant
from fastserve_runtime.sessions.session import Engine
from fastserve_runtime.variants import unmet

NAME = "onnx:cuda"
PROCESSOR = "gpu"
EXECUTED_BY = "hardware"
FORMAT = "onnx"
BACKEND = onnx_cuda.PROVIDER
PRECISIONS = None

HOME = "FASTSERVE_CUDA_HOME"
_DRIVER_FILES = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg")
"""What the driver of NVIDIA's GPUs shows on Linux, and on Linux inside Windows."""


def needs() -> Needs:
    """Return a device with its driver and the provider's environment, in which this repository's packages are found."""
    home = set_up_folder(HOME, "cuda")
    python = home / "bin" / "python"
    packages = next(iter(sorted(home.glob("lib/python3*/site-packages"))), home / "lib")
    return Needs(
        files=(
            (first_that_exists(*_DRIVER_FILES), "a CUDA device with its driver", onnx_cuda.INSTALL),
            (python, "the environment of ONNX Runtime for CUDA", onnx_cuda.INSTALL),
            (packages / "onnxruntime", "ONNX Runtime for CUDA", onnx_cuda.INSTALL),
        ),
        environment=separate_environment(packages),
        interpreter=python,
    )


def engine(variant: Variant) -> Engine:
    """Return ONNX Runtime with this provider.

    Raises:
        EnvironmentFailure: its version is too old for the variant.
    """
    version = onnx_cuda.version()
    failure = None if version is None else unmet(variant, onnx_cuda, version)
    if failure is not None:
        raise failure
    return onnx_cuda
