"""Qualcomm's Hexagon NPU by ExecuTorch's QNN backend, on Qualcomm's simulator for x86.

Programs are compiled for it by `export --target executorch:qnn-htp`; one that is made for XNNPACK has nothing for it.
The wheel of ExecuTorch brings the backend without Qualcomm's libraries. Those of `onnxruntime-qnn` take their place: a
folder that looks like Qualcomm's SDK links to them (`scripts/setup_qnn_executorch.sh`). ExecuTorch says that the
backend is there with or without them.
"""

from __future__ import annotations

import os

from fastserve_device_tests.executors import executorch_qnn
from fastserve_device_tests.needs import Needs, set_up_folder
from fastserve_runtime.bundle.manifest import Variant
from fastserve_runtime.conformance.widths import HALF_ARITHMETIC
from fastserve_runtime.sessions.session import Engine

NAME = "executorch:qnn-htp"
PROCESSOR = "npu"
EXECUTED_BY = "simulator"
FORMAT = "executorch"
BACKEND = executorch_qnn.BACKEND
PRECISIONS = {"fp16": HALF_ARITHMETIC, "a16w8": "a16w8", "int8-static": "int8-static"}
OWN_ARTIFACT = True

HOME = "FASTSERVE_QNN_HOME"
_SETUP = "bash scripts/setup_qnn_executorch.sh"


def needs() -> Needs:
    """Return ExecuTorch, Qualcomm's package, and the folder that makes an SDK of it."""
    home = set_up_folder(HOME, "qnn")
    libraries = home / "lib" / "x86_64-linux-clang"
    searched = filter(None, (str(libraries), os.environ.get("LD_LIBRARY_PATH")))
    return Needs(
        modules={
            "executorch": "pip install executorch",
            "onnxruntime_qnn": executorch_qnn.INSTALL,
            "flatbuffers": "pip install flatbuffers",
        },
        files=((libraries / "libQnnHtp.so", "the folder of Qualcomm's libraries for ExecuTorch", _SETUP),),
        environment={"QNN_SDK_ROOT": str(home), "LD_LIBRARY_PATH": os.pathsep.join(searched)},
    )


def engine(variant: Variant) -> Engine:  # noqa: ARG001 -- the same for every one
    """Return ExecuTorch with Qualcomm's libraries."""
    return executorch_qnn
