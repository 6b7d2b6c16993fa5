"""LiteRT's GPU accelerator (WebGPU), on SwiftShader: a Vulkan driver that computes on the CPU.

The driver comes with Chromium. The numbers are those of the accelerator's shaders, in floats of 32 bits.

The accelerator has no activations of 16 bits (`a16w8`), and version 2.3.0 ends its process on integers of 4 bits in
blocks (`int4`, `int8-embedding-int4`, `mixed`). It multiplies in floats where a file asks for int8 rounded row by row
(`int8-dynamic`), which the tolerance of int8 covers.
"""

from __future__ import annotations

from fastserve_device_tests.compilers.litert_compiling import GPU
from fastserve_device_tests.executors import litert_gpu
from fastserve_device_tests.executors.litert_gpu import LiteRTGpu
from fastserve_device_tests.executors.not_opened import check_one_graph
from fastserve_device_tests.needs import Needs, first_that_exists
from fastserve_runtime.bundle.manifest import Variant

NAME = "tflite:gpu"
PROCESSOR = "gpu"
EXECUTED_BY = "software driver"
FORMAT = "tflite"
BACKEND = GPU
PRECISIONS = {name: name for name in ("fp32", "fp16", "int8-dynamic", "int8-weight-only", "int8-static")}


def needs() -> Needs:
    """Return LiteRT and the driver."""
    driver = first_that_exists("/usr/lib/chromium/vk_swiftshader_icd.json")
    return Needs(
        modules={"ai_edge_litert": litert_gpu.INSTALL},
        files=((driver, "SwiftShader's Vulkan driver", "apt-get install chromium"),),
        environment={"VK_ICD_FILENAMES": str(driver)},
    )


def engine(variant: Variant) -> LiteRTGpu:
    """Return LiteRT with its GPU accelerator.

    Raises:
        UsageError: the model has several graphs.
    """
    check_one_graph(NAME, variant)
    return litert_gpu.FULL
