"""ONNX Runtime's WebGPU execution provider, on SwiftShader: a Vulkan driver that computes on the CPU.

The driver comes with Chromium. The numbers are those of the provider's shaders; its speed means nothing.
"""

from __future__ import annotations

from fastserve_device_tests.executors.onnx_plugin_provider import PluginProvider
from fastserve_device_tests.needs import Needs, first_that_exists
from fastserve_runtime.bundle.manifest import Variant

NAME = "onnx:webgpu"
PROCESSOR = "gpu"
EXECUTED_BY = "software driver"
FORMAT = "onnx"
BACKEND = "WebGpuExecutionProvider"
PRECISIONS = None

_ENGINE = PluginProvider(
    "ONNX Runtime on WebGPU",
    BACKEND,
    "onnxruntime_ep_webgpu",
    "pip install --no-deps onnxruntime-ep-webgpu==0.4.0",
)


def needs() -> Needs:
    """Return the provider's package and the driver."""
    driver = first_that_exists("/usr/lib/chromium/vk_swiftshader_icd.json")
    return Needs(
        modules={"onnxruntime_ep_webgpu": _ENGINE.INSTALL},
        files=((driver, "SwiftShader's Vulkan driver", "apt-get install chromium"),),
        environment={"VK_ICD_FILENAMES": str(driver), "ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER": "1"},
    )


def engine(variant: Variant) -> PluginProvider:  # noqa: ARG001 -- the same for every one
    """Return ONNX Runtime with this provider."""
    return _ENGINE
