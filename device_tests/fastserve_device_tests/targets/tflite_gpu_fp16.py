"""LiteRT's GPU accelerator (WebGPU) in floats of 16 bits, on lavapipe: Mesa's Vulkan driver that computes on the CPU.

That is how the accelerator computes on phones unless it is told not to. SwiftShader has no such floats; lavapipe has
them since Mesa 23, and version 25 is the first of Debian that LiteRT takes. What the accelerator does not take is the
same as on `tflite:gpu`.
"""

from __future__ import annotations

import json
from pathlib import Path

from fastserve_device_tests.compilers.litert_compiling import GPU
from fastserve_device_tests.executors import litert_gpu
from fastserve_device_tests.executors.litert_gpu import LiteRTGpu
from fastserve_device_tests.executors.not_opened import check_one_graph
from fastserve_device_tests.needs import Needs, set_up_folder
from fastserve_runtime.bundle.manifest import Variant
from fastserve_runtime.conformance.widths import HALF_ARITHMETIC

NAME = "tflite:gpu-fp16"
PROCESSOR = "gpu"
EXECUTED_BY = "software driver"
FORMAT = "tflite"
BACKEND = GPU
PRECISIONS = {
    "fp32": HALF_ARITHMETIC,
    "fp16": HALF_ARITHMETIC,
    "int8-dynamic": "int8-dynamic",
    "int8-weight-only": "int8-weight-only",
    "int8-static": "int8-static",
}

HOME = "FASTSERVE_LAVAPIPE_HOME"
INSTALL = "bash scripts/setup_lavapipe.sh"

_SECONDS = 1800
"""The driver compiles every shader to machine code, afresh for each length of text."""
_MIN_API = (1, 4)
"""Mesa 25 is the first whose lavapipe offers this version of Vulkan."""


def needs() -> Needs:
    """Return LiteRT and the driver."""
    found = driver()
    return Needs(
        modules={"ai_edge_litert": litert_gpu.INSTALL},
        files=((found, "a lavapipe of Mesa 25 or later", INSTALL),),
        environment={"VK_ICD_FILENAMES": str(found)},
        seconds=_SECONDS,
    )


def engine(variant: Variant) -> LiteRTGpu:
    """Return LiteRT with its GPU accelerator in floats of 16 bits.

    Raises:
        UsageError: the model has several graphs.
    """
    check_one_graph(NAME, variant)
    return litert_gpu.HALF


def driver(system: Path = Path("/usr/share/vulkan/icd.d")) -> Path | None:
    """Return the description of a lavapipe that is new enough: the one that was set up, or the system's; or None."""
    home = set_up_folder(HOME, "lavapipe")
    places = (home / "lvp_icd.json", *sorted(system.glob("lvp_icd*.json")))
    return next((path for path in places if path.is_file() and _api_version(path) >= _MIN_API), None)


def _api_version(path: Path) -> tuple[int, ...]:
    try:
        return tuple(map(int, json.loads(path.read_bytes())["ICD"]["api_version"].split(".")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not what Vulkan's loader reads either
        return ()
